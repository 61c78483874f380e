"""Typed readers for the environment; a bad value is refused by name."""

import os
from collections.abc import Callable, Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T")


def env_text(name: str, default: str = "", *, among: Collection[str] = ()) -> str:
    """A text; one of `among` if that is given."""
    text = os.environ.get(name, default)
    if among and text not in among:
        raise ImproperlyConfigured(f"{name}={text!r} must be one of {', '.join(among)}, or be left out.")
    return text


def env_list(name: str, default: str = "") -> list[str]:
    return [part.strip() for part in env_text(name, default).split(",") if part.strip()]


def env_bool(name: str, default: bool) -> bool:
    text = env_text(name).lower()
    if text in ("", "0", "false", "no", "1", "true", "yes"):
        return text in ("1", "true", "yes") if text else default
    raise ImproperlyConfigured(f"{name}={text!r} must be 1 or 0.")


def env_number(name: str, default: T, kind: Callable[[str], T]) -> T:
    """A number of seconds, bytes or things, read with `kind` (int or float)."""
    text = env_text(name)
    try:
        return kind(text) if text else default
    except ValueError:
        raise ImproperlyConfigured(f"{name}={text!r} must be a number.") from None


def database(url: str) -> dict[str, Any]:
    """Django's settings for a URL like postgresql://user:pw@host:5432/name or postgresql:///name?host=/socket/dir."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgres", "postgresql"):
        raise ImproperlyConfigured("DATABASE_URL must start with postgresql://.")
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    if "pool" in options:
        options["pool"] = options["pool"] == "1"
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or options.pop("user", "")),
        "PASSWORD": unquote(parts.password or options.pop("password", "")),
        "HOST": options.pop("host", "") or unquote(parts.hostname or ""),
        "PORT": options.pop("port", "") or str(parts.port or ""),
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": options,
    }


def broker(redis_url: str) -> str:
    """The broker URL for Celery: kombu spells a unix socket redis+socket://, redis-py unix://."""
    parts = urlsplit(redis_url)
    if parts.scheme == "unix":
        database_number = dict(parse_qsl(parts.query)).get("db", "0")
        return f"redis+socket://{parts.path}?virtual_host={database_number}"
    return redis_url


def mail(url: str) -> dict[str, Any]:
    """Django's mail settings for a URL like smtp://user:pw@host:25 or smtps://host; empty writes to the terminal."""
    parts = urlsplit(url)
    if not url:
        return {"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}
    if parts.scheme not in ("smtp", "smtp+tls", "smtps"):
        raise ImproperlyConfigured("EMAIL_URL must start with smtp://, smtp+tls:// or smtps://.")
    return {
        "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "EMAIL_HOST": parts.hostname or "localhost",
        "EMAIL_PORT": parts.port or (465 if parts.scheme == "smtps" else 25),
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_TLS": parts.scheme == "smtp+tls",
        "EMAIL_USE_SSL": parts.scheme == "smtps",
    }


def package(name: str) -> Path:
    """Where the files of an installed package are; it is not imported. Raises ImproperlyConfigured."""
    found = find_spec(name)
    if found is None or not found.origin:
        raise ImproperlyConfigured(f"{name} is not installed; pip install -r requirements.txt does it.")
    return Path(found.origin).parent
