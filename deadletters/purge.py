"""Purging: resolved letters are deleted, and with them the jobs that nothing can run again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef

from api.tally import Tally
from deadletters.models import DeadLetter
from jobs.models import Event, Job
from jobs.states import State

PURGED = "purged"
STILL_OPEN = "it is open: replay or drop it first"
LETTERS_PER_TRANSACTION = 500


@dataclass
class Purged(Tally):
    """`done` are letters; `jobs` is how many jobs went with them."""

    jobs: int = 0


def purge(letters: Iterable[DeadLetter], *, actor: str, reason: str = "") -> Purged:
    """Delete resolved letters; open ones are left alone.

    A job goes with its letter, and takes its key and its history along, when it is a FAILURE without an
    open letter. A job that was replayed and waits, runs or succeeded stays.
    """
    ids = [letter.pk for letter in letters]
    purged = Purged()
    for start in range(0, len(ids), LETTERS_PER_TRANSACTION):
        with transaction.atomic():
            _purge_some(ids[start : start + LETTERS_PER_TRANSACTION], purged, actor, reason)
    return purged


def purge_together(letters: Sequence[DeadLetter], *, actor: str, reason: str, details: dict[str, Any]) -> Purged:
    """Purge letters that the caller's transaction holds; `details` go into the event."""
    skipped = {letter.pk: why for letter in letters if (why := why_not(letter))}
    gone = {letter.pk: letter.job_id for letter in letters if letter.pk not in skipped}
    jobs = _jobs_only_these_keep(set(gone.values()))
    Job.objects.filter(pk__in=jobs).delete()
    DeadLetter.objects.filter(pk__in=gone).delete()
    if gone:
        about = {"letters": list(gone), "jobs": [str(job) for job in jobs], "skipped": len(skipped)}
        Event.objects.create(verb=PURGED, actor=actor, reason=reason, details=about | details)
    return Purged(list(gone), skipped, len(jobs))


def why_not(letter: DeadLetter) -> str | None:
    """Why this letter would be left alone, or None."""
    return STILL_OPEN if letter.is_open else None


def _purge_some(ids: list[int], purged: Purged, actor: str, reason: str) -> None:
    # Locked in one order, so that two purges cannot wait for each other.
    found = list(DeadLetter.objects.filter(pk__in=ids).order_by("pk").select_for_update())
    outcome = purge_together(found, actor=actor, reason=reason, details={})
    missing = set(ids).difference(letter.pk for letter in found)
    skipped = outcome.skipped | dict.fromkeys(missing, "it no longer exists")
    purged.add(Tally(outcome.done, {pk: f"Dead letter {pk}: {skipped[pk]}." for pk in ids if pk in skipped}))
    purged.jobs += outcome.jobs


def _jobs_only_these_keep(ids: Iterable[UUID]) -> list[UUID]:
    """A FAILURE without an open letter cannot change any more, so what is read here still holds at the delete."""
    open_letters = DeadLetter.objects.open().filter(job=OuterRef("pk"))
    return list(
        Job.objects.filter(~Exists(open_letters), pk__in=list(ids), state=State.FAILURE).values_list("pk", flat=True)
    )
