"""Reports over HTTP: a page, a CSV file and a PDF, for a token or an admin session."""

from collections.abc import Callable
from functools import wraps

from django.contrib import admin
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from api.tokens import TokenAuth, has_scope
from monitoring.models import Report
from monitoring.reports import file_name

View = Callable[[HttpRequest, int], HttpResponse]
UNAUTHORIZED = {"WWW-Authenticate": "Bearer"}


def for_readers(view: View) -> View:
    """Let in a token with the scope `read` and staff who may view reports; others are told what is missing."""

    @wraps(view)
    def guarded(request: HttpRequest, report_id: int) -> HttpResponse:
        return _refusal(request) or view(request, report_id)

    return require_safe(guarded)


@for_readers
def page(request: HttpRequest, report_id: int) -> HttpResponse:
    report = get_object_or_404(Report.objects.defer("csv", "pdf"), pk=report_id)
    context = admin.site.each_context(request) | {"report": report, "title": report.data["title"]}
    return render(request, "monitoring/report.html", context)


@for_readers
def csv(request: HttpRequest, report_id: int) -> HttpResponse:
    report = get_object_or_404(Report.objects.defer("pdf"), pk=report_id)
    return _download(bytes(report.csv), file_name(report, "csv"), "text/csv; charset=utf-8")


@for_readers
def pdf(request: HttpRequest, report_id: int) -> HttpResponse:
    report = get_object_or_404(Report.objects.exclude(pdf=None).defer("csv"), pk=report_id)
    return _download(bytes(report.pdf or b""), file_name(report, "pdf"), "application/pdf")


def _refusal(request: HttpRequest) -> HttpResponse | None:
    if "Authorization" in request.headers:
        return _refusal_of_token(request)
    if not request.user.is_authenticated or not request.user.is_staff:
        return redirect_to_login(request.get_full_path())
    if not request.user.has_perm("monitoring.view_report"):
        return HttpResponseForbidden("You may not view reports. Ask for the permission 'Can view report'.")
    return None


def _refusal_of_token(request: HttpRequest) -> HttpResponse | None:
    token = TokenAuth()(request)
    if token is None:
        return HttpResponse("The token is unknown, expired or revoked.", status=401, headers=UNAUTHORIZED)
    setattr(request, "auth", token)  # noqa: B010  an attribute the API's own requests carry, unknown to Django's type
    return None if has_scope(request, "read") else HttpResponseForbidden("This needs a token with the scope 'read'.")


def _download(content: bytes, name: str, content_type: str) -> HttpResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "private"}
    return HttpResponse(content, content_type=content_type, headers=headers)
