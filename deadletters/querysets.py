"""Sets of letters, and the one write that resolves them."""

from typing import Any, Self

from django.db import models
from django.db.models.functions import Now


class DeadLetterQuerySet(models.QuerySet):
    def open(self) -> Self:
        return self.filter(resolution=None)

    def resolved(self) -> Self:
        return self.exclude(resolution=None)

    def resolve(self, resolution: str, *, by: str, reason: str, **values: Any) -> int:
        """Close every open letter of this set; the number that was still open."""
        return self.open().update(
            resolution=resolution, resolved_at=Now(), resolved_by=by, resolved_reason=reason, **values
        )
