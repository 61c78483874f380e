"""Every address this project answers."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView

from config.api import api, docs
from monitoring.health import alive, ready
from monitoring.scraping import metrics

admin.autodiscover()
urlpatterns: list[URLPattern | URLResolver] = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("healthz", alive),
    path("readyz", ready),
    path("metrics", metrics),
    path("docs", RedirectView.as_view(pattern_name="docs"), name="docs-short"),
    path("api/docs", docs, name="docs"),
    path("api/", api.urls),
    path("", include("monitoring.urls")),
    path("admin/", admin.site.urls),
]
