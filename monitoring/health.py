"""Is this process alive, and can the installation work?"""

from dataclasses import asdict
from typing import Any

from django.http import HttpRequest, JsonResponse

from api.tokens import TokenAuth
from monitoring.readiness import readiness


def alive(request: HttpRequest) -> JsonResponse:
    """Liveness: this process answers. Says nothing about the database or the workers."""
    return JsonResponse({"status": "alive"})


def ready(request: HttpRequest) -> JsonResponse:
    """Readiness: 503 when this process should get no requests; with `?strict`, when anything at all is missing.

    Anybody is told the status; the parts, who may see them: nobody while no credentials can be checked.
    """
    found = readiness()
    well = found.is_complete if "strict" in request.GET else found.can_serve
    answer: dict[str, Any] = {"status": found.status}
    if found.can_serve and _may_see_parts(request):
        answer["parts"] = {part.name: asdict(part) for part in found.parts}
    return JsonResponse(answer, status=200 if well else 503)


def _may_see_parts(request: HttpRequest) -> bool:
    """As for GET /api/workers/health."""
    if "Authorization" in request.headers:
        token = TokenAuth()(request)
        return token is not None and "read" in token.scopes
    return request.user.is_staff and request.user.has_perm("jobs.view_queue")
