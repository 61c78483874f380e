"""Is this process alive, and can the installation work?"""

from dataclasses import asdict

from django.http import HttpRequest, JsonResponse

from monitoring.readiness import readiness


def alive(request: HttpRequest) -> JsonResponse:
    """Liveness: this process answers. Says nothing about the database or the workers."""
    return JsonResponse({"status": "alive"})


def ready(request: HttpRequest) -> JsonResponse:
    """Readiness: 503 when this process should get no requests; with `?strict`, when anything at all is missing."""
    found = readiness()
    well = found.is_complete if "strict" in request.GET else found.can_serve
    parts = {part.name: asdict(part) for part in found.parts}
    return JsonResponse({"status": found.status, "parts": parts}, status=200 if well else 503)
