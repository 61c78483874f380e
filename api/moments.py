"""Times as clients write them: with a zone, and such that PostgreSQL and Python both can hold them."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any

from django.utils.dateparse import parse_datetime
from pydantic import BeforeValidator, WithJsonSchema


def moment(value: Any) -> datetime:
    """The time a text like 2026-11-20T03:00:00Z stands for; raises ValueError."""
    with suppress(ValueError, OverflowError):
        found = parse_datetime(value) if isinstance(value, str) else None
        if found is not None and found.tzinfo is not None:
            return found.astimezone(UTC)
    raise ValueError("must be a time with a zone, like 2026-11-20T03:00:00Z")


Moment = Annotated[datetime, BeforeValidator(moment), WithJsonSchema({"type": "string", "format": "date-time"})]
