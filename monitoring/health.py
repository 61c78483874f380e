"""Is this process alive?"""

from django.http import HttpRequest, JsonResponse


def alive(request: HttpRequest) -> JsonResponse:
    """Liveness: this process answers. Says nothing about the database or the workers."""
    return JsonResponse({"status": "alive"})
