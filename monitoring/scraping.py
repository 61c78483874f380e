"""GET /metrics, for a token with the scope `metrics` or from a network that METRICS_NETWORKS names."""

import hashlib
from ipaddress import ip_address, ip_network

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from api.models import ApiToken
from api.serving import expect_an_answer
from monitoring.metrics import exposition

SCOPE = "metrics"
UNAUTHORIZED = {"WWW-Authenticate": 'Bearer realm="metrics"'}
# Tokens let in before, as digests: while PostgreSQL is away nobody can check one, and just then it must be said.
_admitted: set[bytes] = set()


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    if not _is_near(request.META.get("REMOTE_ADDR", "")) and (refused := _refusal(request)):
        return refused
    content, content_type = exposition(request.headers.get("Accept", ""))
    return HttpResponse(content, content_type=content_type, headers={"Cache-Control": "no-store"})


def _is_near(address: str) -> bool:
    if not address or not settings.METRICS_NETWORKS:
        return False
    found = ip_address(address)
    return any(found in ip_network(network) for network in settings.METRICS_NETWORKS)


def _refusal(request: HttpRequest) -> HttpResponse | None:
    secret = request.headers.get("Authorization", "").removeprefix("Bearer ")
    digest = hashlib.sha256(secret.encode()).digest()
    try:
        expect_an_answer()
        token = ApiToken.authenticate(secret)
    except (OperationalError, InterfaceError):
        return None if digest in _admitted else HttpResponse("PostgreSQL does not answer.", status=503)
    if token is None or SCOPE not in token.scopes:
        _admitted.discard(digest)
        if token is None:
            return HttpResponse("Send a token with the scope 'metrics'.", status=401, headers=UNAUTHORIZED)
        return HttpResponse("This token lacks the scope 'metrics'.", status=403)
    _admitted.add(digest)
    return None
