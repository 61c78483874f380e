"""Every address this project answers."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, path
from django.views.generic import RedirectView

from config.api import api
from monitoring.health import alive

urlpatterns: list[URLPattern | URLResolver] = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("healthz", alive),
    path("api/", api.urls),
    path("admin/", admin.site.urls),
]
