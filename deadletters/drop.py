"""Dropping: a letter is closed for good, its job stays a FAILURE."""

from collections.abc import Iterable
from typing import Any

from django.db import transaction

from api.tally import Tally, on_each
from deadletters.models import DeadLetter
from deadletters.resolution import REFUSALS, close
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


def drop_together(letters: Any, *, actor: str, reason: str, most: int) -> int:
    """Drop the oldest open letters of a set, up to `most`, in one transaction; how many."""
    with transaction.atomic():
        wanted = letters.open().order_by("pk").select_for_update(of=("self",))[:most]
        found = dict(wanted.values_list("pk", "job_id"))
        DeadLetter.objects.filter(pk__in=found).resolve(DeadLetter.Resolution.DROPPED, by=actor, reason=reason)
        Event.objects.bulk_create(
            Event(job_id=job, verb=DROPPED, actor=actor, reason=reason, details={"letter": letter})
            for letter, job in found.items()
        )
    return len(found)
