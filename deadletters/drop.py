"""Dropping: a letter is closed for good, its job stays a FAILURE."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import transaction

from api.tally import Tally, on_each
from deadletters.models import DeadLetter
from deadletters.resolution import REFUSALS, close, why_not
from jobs.models import Event

DROPPED = "dropped"


def drop(letter: DeadLetter, *, actor: str, reason: str) -> None:
    """Close an open letter without running its job again; raises Conflict when it is not open."""
    with transaction.atomic():
        close(letter, DeadLetter.Resolution.DROPPED, actor=actor, reason=reason)
        Event.objects.create(
            job_id=letter.job_id, verb=DROPPED, actor=actor, reason=reason, details={"letter": letter.pk}
        )


def drop_all(letters: Iterable[DeadLetter], *, actor: str, reason: str) -> Tally:
    """Drop each letter in a transaction of its own."""
    return on_each(letters, lambda letter: drop(letter, actor=actor, reason=reason), refusals=REFUSALS)


def drop_together(letters: Sequence[DeadLetter], *, actor: str, reason: str, details: dict[str, Any]) -> Tally:
    """Drop letters that the caller's transaction holds, those that are still open; `details` go into each event."""
    skipped = {letter.pk: why for letter in letters if (why := why_not(letter))}
    dropped = [letter for letter in letters if letter.pk not in skipped]
    ids = [letter.pk for letter in dropped]
    DeadLetter.objects.filter(pk__in=ids).resolve(DeadLetter.Resolution.DROPPED, by=actor, reason=reason)
    Event.objects.bulk_create(
        Event(job_id=letter.job_id, verb=DROPPED, actor=actor, reason=reason, details={"letter": letter.pk} | details)
        for letter in dropped
    )
    return Tally(ids, skipped)
