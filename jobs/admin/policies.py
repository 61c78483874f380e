"""Policies as they are in force, for reading: they are changed in their file."""

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from jobs import registry
from jobs.policies import policy


def policies_page(request: HttpRequest) -> HttpResponse:
    if not request.user.has_perm("jobs.view_job"):
        raise PermissionDenied
    rows = [
        {
            "name": name,
            "does": registry.summary(task),
            "policy": policy(name),
        }
        for name, task in sorted(registry.tasks().items())
    ]
    file = settings.POLICIES_FILE.name
    context = admin.site.each_context(request) | {"title": "Policies", "rows": rows, "file": file}
    return TemplateResponse(request, "admin/jobs/policies.html", context)
