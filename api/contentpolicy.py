"""The Content-Security-Policy of the settings on every answer."""

from typing import Any

from csp.constants import HEADER
from csp.middleware import CSPMiddleware
from csp.utils import build_policy
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

# Django's own pages about errors, which only DEBUG shows, carry their style inside.
DEBUG_PAGES = (404, 500)


class OnePolicy(CSPMiddleware):
    """Builds the header once: no page of ours has a nonce or an exception, and building it takes as long as a query."""

    def __init__(self, get_response: Any) -> None:
        super().__init__(get_response)
        self.policy = build_policy()

    def process_request(self, request: HttpRequest) -> None:
        """No nonce."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if not (settings.DEBUG and response.status_code in DEBUG_PAGES):
            response.headers.setdefault(HEADER, self.policy)
        return response
