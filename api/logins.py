"""Guessing passwords is slow: too many failures of one address, or of one name from it, and nobody gets in for a while.

Counted in Redis for all web processes together. When Redis is away everybody may try: a panel nobody can
enter during an outage would be the greater damage.
"""

import logging
from functools import cache
from typing import Any

import redis
from django.conf import settings
from django.contrib.auth.signals import user_login_failed
from django.core.exceptions import PermissionDenied
from django.dispatch import receiver
from django.http import HttpRequest
from redis.backoff import NoBackoff
from redis.retry import Retry

logger = logging.getLogger(__name__)
TIMEOUT = 0.2
WINDOW_SECONDS = 300
FAILURES_OF_NAME, FAILURES_OF_ADDRESS = 10, 50


class LoginThrottle:
    """The first of the AUTHENTICATION_BACKENDS: it knows nobody, but may refuse to have the others asked.

    No BaseBackend, whose get_user would make Django take it for one that logs people in.
    """

    def authenticate(self, request: HttpRequest | None, username: str | None = None, **credentials: Any) -> None:
        if request is not None and _is_over(request, username or ""):
            logger.warning("login refused after too many failures", extra={"address": _address(request)})
            raise PermissionDenied


@receiver(user_login_failed)
def count_failure(credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    if request is None:
        return
    try:
        pipeline = _client().pipeline()
        for key in _keys(request, credentials.get("username") or ""):
            pipeline.incr(key)
            pipeline.expire(key, WINDOW_SECONDS, nx=True)
        pipeline.execute()
    except redis.RedisError as error:
        logger.warning("login failure not counted", extra={"reason": str(error)})


def _is_over(request: HttpRequest, username: str) -> bool:
    try:
        counts: Any = _client().mget(_keys(request, username))
    except redis.RedisError:
        return False
    of_name, of_address = (int(count or 0) for count in counts)
    return of_name >= FAILURES_OF_NAME or of_address >= FAILURES_OF_ADDRESS


def _keys(request: HttpRequest, username: str) -> list[str]:
    address = _address(request)
    return [f"switchyard:login:{address}:{username[:150]}", f"switchyard:login:{address}"]


def _address(request: HttpRequest) -> str:
    return str(request.META.get("REMOTE_ADDR", ""))


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0)
    )
