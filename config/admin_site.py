"""The admin, named after the house, with the overview as its front page."""

from typing import Any

from django.conf import settings
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path

from config.navigation import navigation
from monitoring.charts import RANGES, charts
from monitoring.dashboard import overview
from monitoring.house import house
from monitoring.snapshot import snapshot

SEES = "jobs.view_job"


class SwitchyardAdminSite(AdminSite):
    site_header = "Switchyard"
    site_title = "Switchyard"
    index_title = "Overview"
    index_template = "panel/overview.html"
    enable_nav_sidebar = True

    def get_urls(self) -> list[URLPattern | URLResolver]:
        own: list[URLPattern | URLResolver] = [
            path("now.json", self.admin_view(self.now), name="now"),
            path("charts.json", self.admin_view(self.charts), name="charts"),
        ]
        return own + super().get_urls()

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        context = super().each_context(request)
        context["environment"] = "development" if settings.DEBUG else "production"
        if context["has_permission"]:
            context["house"] = house()
            context["navigation"] = navigation(request, context["house"])
        return context

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        if not request.user.has_perm(SEES):
            return super().index(request, (extra_context or {}) | {"overview": None})
        chosen = _range(request)
        context = {"overview": overview(), "ranges": RANGES, "range": chosen, "may_pause": _may_pause(request)}
        return super().index(request, context | (extra_context or {}))

    def now(self, request: HttpRequest) -> HttpResponse:
        """What the live feed sends, for those whose socket is blocked."""
        _require(request)
        return JsonResponse(snapshot())

    def charts(self, request: HttpRequest) -> HttpResponse:
        _require(request)
        return JsonResponse(charts(_range(request)))


def _range(request: HttpRequest) -> str:
    asked = request.GET.get("range", "1h")
    return asked if asked in RANGES else "1h"


def _may_pause(request: HttpRequest) -> bool:
    return request.user.has_perm("jobs.pause_queue")


def _require(request: HttpRequest) -> None:
    if not request.user.has_perm(SEES):
        raise PermissionDenied
