"""Dropping: a letter is closed for good, its job stays a FAILURE."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import transaction

from api.tally import Tally, on_each
from deadletters.models import DeadLetter
from deadletters.resolution import REFUSALS, close, why_not
from jobs.models import Event
from jobs.noting import note
from jobs.states import State

DROPPED = "dropped"


def drop(letter: DeadLetter, *, actor: str, reason: str) -> None:
    """Close an open letter without running its job again; raises Conflict when it is not open."""
    with transaction.atomic():
        close(letter, DeadLetter.Resolution.DROPPED, actor=actor, reason=reason)
        _note([letter], actor, reason, {})


def drop_all(letters: Iterable[DeadLetter], *, actor: str, reason: str) -> Tally:
    """Drop each letter in a transaction of its own."""
    return on_each(letters, lambda letter: drop(letter, actor=actor, reason=reason), refusals=REFUSALS)


def drop_together(letters: Sequence[DeadLetter], *, actor: str, reason: str, details: dict[str, Any]) -> Tally:
    """Drop letters that the caller's transaction holds, those that are still open; `details` go into each event."""
    skipped = {letter.pk: why for letter in letters if (why := why_not(letter))}
    dropped = [letter for letter in letters if letter.pk not in skipped]
    ids = [letter.pk for letter in dropped]
    DeadLetter.objects.filter(pk__in=ids).resolve(DeadLetter.Resolution.DROPPED, by=actor, reason=reason)
    _note(dropped, actor, reason, details)
    return Tally(ids, skipped)


def _note(letters: Sequence[DeadLetter], actor: str, reason: str, details: dict[str, Any]) -> None:
    about = {"verb": DROPPED, "actor": actor, "reason": reason}
    events = [Event(job_id=letter.job_id, details={"letter": letter.pk} | details, **about) for letter in letters]
    note(events, state=State.FAILURE)
