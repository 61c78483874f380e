"""API tokens: shown once, stored as a digest."""

import hashlib
import hmac
import secrets
from functools import cache
from typing import Self

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.postgres.fields import ArrayField
from django.db import connection, models
from django.db.models.functions import Now
from django.utils import timezone

from api.prepared import on_django

SCOPES = ("read", "submit", "operate", "metrics")
PREFIX_LENGTH = 8


class ApiToken(models.Model):
    """What a client shows instead of a login. Only its SHA-256 is kept, so nobody can read it back."""

    prefix = models.CharField(max_length=PREFIX_LENGTH, unique=True)
    digest = models.CharField(max_length=64, unique=True)
    name = models.CharField(max_length=100)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="api_tokens")
    scopes = ArrayField(models.CharField(max_length=20), default=list)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @classmethod
    def issue(cls, **fields: object) -> tuple[Self, str]:
        """Create a token; the row, and the secret that is never seen again."""
        secret = secrets.token_urlsafe(32)
        prefix = secrets.token_hex(PREFIX_LENGTH // 2)
        row = cls.objects.create(prefix=prefix, digest=_digest(secret), **fields)
        return row, f"{prefix}.{secret}"

    @classmethod
    def authenticate(cls, text: str) -> Self | None:
        """The valid token behind a secret, or None; compares in constant time."""
        prefix, _, secret = text.partition(".")
        row = cls._of_active_owner(prefix[:PREFIX_LENGTH])
        known = row.digest if row else "0" * 64
        same = hmac.compare_digest(known, _digest(secret))
        return row if row and same and row.is_in_force() else None

    @classmethod
    def _of_active_owner(cls, prefix: str) -> Self | None:
        """Part of every call of the API; the ORM would take longer to make these objects than all of the rest."""
        rows = on_django(_statement(), {"prefix": prefix})
        return cls.from_db(connection.alias, _columns(), rows[0]) if rows else None

    def is_valid(self) -> bool:
        return self.is_in_force() and self.owner.is_active

    def is_in_force(self) -> bool:
        """Neither expired nor revoked."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > timezone.now())


@cache
def _columns() -> tuple[str, ...]:
    return tuple(field.attname for field in ApiToken._meta.concrete_fields)


@cache
def _statement() -> str:
    columns = ", ".join(f"token.{column}" for column in _columns())
    users = get_user_model()._meta.db_table
    return f"""
    SELECT {columns} FROM {ApiToken._meta.db_table} AS token JOIN {users} AS owner ON owner.id = token.owner_id
     WHERE token.prefix = %(prefix)s AND owner.is_active
    """


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
