"""Forgetting letters that were resolved long ago, and the dropped jobs behind them."""

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from deadletters.models import DeadLetter
from deadletters.purge import purge
from jobs.retention import BATCH, keys_in_force, retention
from jobs.states import State

ACTOR = "retention"


def retire(*, dry_run: bool) -> dict[str, int]:
    """Purge letters resolved longer ago than the retention; how many, and how many jobs went with them."""
    if dry_run:
        return {"letters": _old().count()}
    letters = jobs = 0
    while batch := list(_old()[:BATCH]):
        purged = purge(batch, actor=ACTOR, reason="Resolved longer ago than the retention.")
        if not purged.done:
            break
        letters, jobs = letters + len(purged.done), jobs + purged.jobs
    return {"letters": letters, "dropped_jobs": jobs}


def _old() -> QuerySet[DeadLetter]:
    """Not those of a job that has an open or a younger letter as well: its history goes as a whole or stays."""
    before = Now() - retention(State.FAILURE)
    same_job = DeadLetter.objects.filter(job=OuterRef("job"))
    younger = same_job.filter(Q(resolution=None) | Q(resolved_at__gte=before))
    protected = keys_in_force().filter(job=OuterRef("job"))
    return DeadLetter.objects.filter(~Exists(younger), ~Exists(protected), resolved_at__lt=before).order_by("pk")
