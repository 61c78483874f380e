"""Sets of letters, and the one write that resolves them."""

from datetime import datetime
from typing import Any, Self
from uuid import UUID

from django.db import models
from django.db.models.functions import Now


class DeadLetterQuerySet(models.QuerySet):
    def open(self) -> Self:
        return self.filter(resolution=None)

    def resolved(self) -> Self:
        return self.exclude(resolution=None)

    def matching(
        self,
        *,
        task: str | None = None,
        queue: str | None = None,
        cause: str | None = None,
        fingerprint: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        job: UUID | None = None,
    ) -> Self:
        """Narrow by everything that is given; `until` itself is outside."""
        asked = {
            "task": task,
            "queue": queue,
            "cause": cause,
            "fingerprint": fingerprint,
            "created_at__gte": since,
            "created_at__lt": until,
            "job": job,
        }
        return self.filter(**{name: value for name, value in asked.items() if value is not None})

    def resolve(self, resolution: str, *, by: str, reason: str, **values: Any) -> int:
        """Close every open letter of this set; the number that was still open."""
        return self.open().update(
            resolution=resolution, resolved_at=Now(), resolved_by=by, resolved_reason=reason, **values
        )
