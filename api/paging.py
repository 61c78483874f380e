"""Pages of big tables by cursor: where the last page ended, so that no page costs more than the first."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Q, QuerySet
from django.utils.dateparse import parse_datetime

from api.problems import Problem, invalid_parameter


class Position(NamedTuple):
    """A row's place in the order of newest first."""

    created_at: datetime
    id: Any


class Page(NamedTuple):
    rows: Sequence[Any]
    next: str | None


def page(rows: QuerySet, cursor: str | None, limit: int, *, id_type: Callable[[Any], Any] = int) -> Page:
    """One page of rows that have created_at and id, newest first."""
    if cursor:
        rows = rows.filter(older_than(decoded(cursor, id_type)))
    found = list(rows.order_by("-created_at", "-id")[: limit + 1])
    more = len(found) > limit
    return Page(found[:limit], encoded(found[limit - 1]) if more else None)


def page_by_id(rows: QuerySet, cursor: str | None, limit: int) -> Page:
    """One page of rows in the order of their numbers."""
    if cursor:
        if not cursor.isdecimal():
            raise _unknown()
        rows = rows.filter(pk__gt=int(cursor))
    found = list(rows.order_by("pk")[: limit + 1])
    return Page(found[:limit], str(found[limit - 1].pk) if len(found) > limit else None)


def older_than(place: Position) -> Q:
    """Behind a place, newest first."""
    return Q(created_at__lte=place.created_at) & (Q(created_at__lt=place.created_at) | Q(id__lt=place.id))


def encoded(row: Any) -> str:
    text = json.dumps([row.created_at.isoformat(), str(row.id)])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decoded(cursor: str, id_type: Callable[[Any], Any] = UUID) -> Position:
    """The place a cursor stands for; raises Problem for one this API never gave out."""
    try:
        text = base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4))
        created_at, key = json.loads(text)
        moment = parse_datetime(created_at)
        if moment is None or moment.tzinfo is None:
            raise ValueError(created_at)
        return Position(moment, id_type(key))
    except (ValueError, TypeError, AttributeError, binascii.Error, RecursionError):
        raise _unknown() from None


def _unknown() -> Problem:
    return invalid_parameter("cursor", "is not one that a page of this list has named; start without it")
