"""Closing a letter: who did what with it, when and why, exactly once."""

from typing import Any

from deadletters.models import DeadLetter
from jobs.errors import Conflict, InvalidJob

# What keeps one letter from being resolved, and must not keep the others of a bulk.
REFUSALS = (Conflict, InvalidJob)


def close(letter: DeadLetter, resolution: str, *, actor: str, reason: str, **values: Any) -> None:
    """Resolve a letter that is still open; raises Conflict when somebody was faster."""
    mine = DeadLetter.objects.filter(pk=letter.pk)
    if not mine.resolve(resolution, by=actor, reason=reason, **values):
        now = mine.first()
        raise Conflict(f"Dead letter {letter.pk} {_resolved(now) if now else 'no longer exists'}.")


def why_not(letter: DeadLetter) -> str | None:
    """Why this letter cannot be resolved, or None."""
    return None if letter.is_open else _resolved(letter).split(" by ")[0]


def _resolved(letter: DeadLetter) -> str:
    return f"was {letter.get_resolution_display().lower()} already by {letter.resolved_by}"
