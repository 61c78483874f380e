"""Who may call the API: a bearer token, or a person logged in to the admin."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from ninja.security import HttpBearer
from ninja.security.apikey import APIKeyCookie
from ninja.utils import check_csrf

from api.models import ApiToken
from api.problems import Problem
from api.throttling import throttle

NOTE_USE_EVERY = timedelta(minutes=1)
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="switchyard"'}
# A token with this scope may change payloads, so it may also read them.
SEES_PAYLOADS = "operate"


class TokenAuth(HttpBearer):
    """`Authorization: Bearer <token>`."""

    def authenticate(self, request: HttpRequest, token: str) -> ApiToken | None:
        row = ApiToken.authenticate(token)
        if row is not None:
            _note_use(row)
        return row


class Token(TokenAuth):
    """A token with a scope, within its rate."""

    def __init__(self, scope: str) -> None:
        super().__init__()
        self.scope = scope

    def __call__(self, request: HttpRequest) -> ApiToken | None:
        if "Authorization" not in request.headers:
            return None
        token = super().__call__(request)
        if token is None:
            raise _unauthenticated("The token is unknown, expired or revoked.")
        throttle(f"token:{token.pk}")
        if self.scope and self.scope not in token.scopes:
            raise Problem("forbidden", f"This needs a token with the scope '{self.scope}'.")
        return token


class Session(APIKeyCookie):
    """An admin session with a permission, and with CSRF protection for anything that changes something."""

    param_name = settings.SESSION_COOKIE_NAME

    def __init__(self, permission: str) -> None:
        super().__init__(csrf=True)
        self.permission = permission

    def __call__(self, request: HttpRequest) -> Any:
        if self.param_name not in request.COOKIES:
            raise _unauthenticated("Send a token as 'Authorization: Bearer ...', or log in to the admin.")
        return self.authenticate(request, None)

    def authenticate(self, request: HttpRequest, key: str | None) -> User:
        user: Any = request.user
        if not user.is_authenticated or not user.is_staff:
            raise _unauthenticated("The session is over, or not one of the admin.")
        if check_csrf(request) is not None:
            raise Problem("csrf-failed", "Send the CSRF token of your session in the header X-CSRFToken.")
        throttle(f"user:{user.pk}")
        if self.permission and not user.has_perm(self.permission):
            raise Problem("forbidden", f"This needs the permission '{self.permission}'.")
        return user


def allowed(scope: str, permission: str) -> list[Any]:
    """The `auth` of an operation: what a token needs, and what a person needs in the admin."""
    return [Token(scope), Session(permission)]


def has_scope(request: HttpRequest, scope: str) -> bool:
    """Whether the caller may; a person with a session may what the admin lets them."""
    caller: Any = getattr(request, "auth", None)
    return scope in caller.scopes if isinstance(caller, ApiToken) else caller is not None


def may(request: HttpRequest, scope: str, permission: str) -> bool:
    """Whether the caller may do something beyond what the operation asks of everybody."""
    caller: Any = getattr(request, "auth", None)
    return scope in caller.scopes if isinstance(caller, ApiToken) else caller.has_perm(permission)


def sees_payloads(request: HttpRequest) -> bool:
    """Whether redacted fields are shown to this caller."""
    return may(request, SEES_PAYLOADS, "jobs.view_payload")


def owner_id(request: HttpRequest) -> int:
    """The person behind the call."""
    caller: Any = getattr(request, "auth", None)
    return caller.owner_id if isinstance(caller, ApiToken) else caller.pk


def actor(request: HttpRequest) -> str:
    """The caller as the audit trail names them."""
    caller: Any = getattr(request, "auth", None)
    if isinstance(caller, ApiToken):
        return f"{caller.owner.get_username()} (token {caller.name})"[:150]
    return caller.get_username()


def _unauthenticated(detail: str) -> Problem:
    return Problem("unauthenticated", detail, headers=CHALLENGE)


def _note_use(row: ApiToken) -> None:
    """Coarse, so that a busy client does not write a row per request."""
    before = timezone.now() - NOTE_USE_EVERY
    if row.last_used_at is None or row.last_used_at < before:
        stale = Q(last_used_at=None) | Q(last_used_at__lt=before)
        ApiToken.objects.filter(stale, pk=row.pk).update(last_used_at=timezone.now())
