"""Refusals as RFC 9457 problem details: one shape for everything the API will not do, whoever refuses it."""

import json
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:switchyard:problem:"
ROOT = "/api/"

# name: status, title. docs/api.md has an entry for each; names are part of the contract.
KINDS: dict[str, tuple[int, str]] = {
    "malformed": (400, "The request is not well-formed"),
    "unauthenticated": (401, "No valid credentials"),
    "forbidden": (403, "Not allowed"),
    "csrf-failed": (403, "CSRF check failed"),
    "not-found": (404, "Not found"),
    "method-not-allowed": (405, "Method not allowed"),
    "conflict": (409, "The state does not allow it"),
    "key-busy": (409, "The first request with this key is still open"),
    "too-large": (413, "The request is too large"),
    "unsupported-media-type": (415, "Unsupported media type"),
    "invalid": (422, "Something in the request is not valid"),
    "key-reused": (422, "The idempotency key was used for another request"),
    "too-many-requests": (429, "Too many requests"),
    "internal": (500, "Something went wrong here"),
    "unavailable": (503, "Not available at the moment"),
    "queue-full": (503, "The queue is full"),
}
# What a refusal from outside this module, of which only the status is known, is called.
BY_STATUS = {400: "malformed", 401: "unauthenticated", 403: "forbidden", 404: "not-found", 405: "method-not-allowed",
             409: "conflict", 413: "too-large", 415: "unsupported-media-type", 422: "invalid",
             429: "too-many-requests", 503: "unavailable"}  # fmt: skip
DETAILS = {
    "malformed": "The server could not understand the request.",
    "not-found": "There is nothing at this address.",
    "method-not-allowed": "This address does not take that method; the header Allow names those it takes.",
    "too-large": "The request is larger than this server accepts.",
}
RETRY_SOON = {"Retry-After": "2"}


class Problem(Exception):
    """Raised anywhere below a call of the API, it becomes the answer."""

    def __init__(
        self,
        kind: str,
        detail: str = "",
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status, self.title = KINDS[kind]
        self.kind = kind
        self.detail = detail or DETAILS.get(kind, f"{self.title}.")
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.members = members

    def document(self) -> dict[str, Any]:
        body = {"type": TYPE_PREFIX + self.kind, "title": self.title, "status": self.status, "detail": self.detail}
        return body | ({"errors": self.errors} if self.errors else {}) | self.members

    def response(self) -> HttpResponse:
        content = json.dumps(self.document(), default=str).encode()
        headers = {"Content-Length": str(len(content)), **self.headers}
        return HttpResponse(content, status=self.status, content_type=MEDIA_TYPE, headers=headers)


def database_away() -> Problem:
    """PostgreSQL cannot be reached, or does not answer."""
    return Problem("unavailable", "The database does not answer.", headers=RETRY_SOON, down=["database"])


def invalid(pointer: str, detail: str) -> Problem:
    """One thing wrong in the body, by JSON Pointer."""
    errors = [{"pointer": pointer, "detail": detail}]
    return Problem("invalid", f"{pointer or 'body'}: {detail}", errors=errors)


def invalid_parameter(name: str, detail: str) -> Problem:
    """One thing wrong in the query string or a header, by its name."""
    return Problem("invalid", f"{name}: {detail}", errors=[{"parameter": name, "detail": detail}])


class ProblemsOnly:
    """First of all middleware: whoever refuses a call of the API, the caller gets a problem and never a page."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        is_refusal = response.status_code >= HTTPStatus.BAD_REQUEST
        if not is_refusal or not request.path.startswith(ROOT) or response.headers.get("Content-Type") == MEDIA_TYPE:
            return response
        return _translated(response)


def _translated(response: HttpResponseBase) -> HttpResponse:
    kind = BY_STATUS.get(response.status_code, "internal" if response.status_code >= 500 else "malformed")
    kept = {name: text for name, text in response.headers.items() if not name.lower().startswith("content-")}
    return Problem(kind, headers=kept).response()
