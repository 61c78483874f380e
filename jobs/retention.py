"""Forgetting: jobs that are over, and rows about nothing any more, in batches of bounded size.

What belongs to a job (labels, attempts, events, effects) goes with it by foreign keys that cascade in the
database, its key by a trigger, so a batch is one DELETE whatever hangs on it.
"""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from jobs.models import Event, IdempotencyKey, Job, Worker
from jobs.states import State

BATCH = 5000
RETIRED = (State.SUCCESS, State.REVOKED)
DEAD_WORKER_AGE = timedelta(days=1)


def retire(*, dry_run: bool) -> dict[str, int]:
    """Delete succeeded and revoked jobs, and what no longer belongs to anything; how many of each."""
    wanted: dict[str, QuerySet[Any]] = {"jobs": _over(), "events": _jobless_events(), "workers": _forgotten_workers()}
    return {name: count_or_delete(rows, dry_run=dry_run) for name, rows in wanted.items()}


def count_or_delete(rows: QuerySet[Any], *, dry_run: bool) -> int:
    return rows.count() if dry_run else delete_in_batches(rows)


def delete_in_batches(rows: QuerySet[Any]) -> int:
    """Delete every row of a set, each batch in a transaction of its own; how many.

    Rows somebody else has locked are left for the next run, so nobody waits for a clean-up.
    """
    total = 0
    while True:
        with transaction.atomic():
            ids = list(rows.select_for_update(skip_locked=True).values_list("pk", flat=True)[:BATCH])
            rows.model._default_manager.filter(pk__in=ids).delete()
        total += len(ids)
        if len(ids) < BATCH:
            return total


def retention(state: str = "") -> timedelta:
    """How long jobs that ended in this state are kept; without one, everything that has no period of its own."""
    return timedelta(days=settings.RETENTION_DAYS_BY_STATE.get(state) or settings.RETENTION_DAYS)


def shortest_retention() -> timedelta:
    return min(retention(state) for state in RETIRED)


def keys_in_force() -> QuerySet[IdempotencyKey]:
    """Keys that still protect their job from a second submit: neither may go."""
    return IdempotencyKey.objects.filter(expires_at__gt=Now())


def _over() -> QuerySet[Job]:
    """Final for good; a FAILURE is the dead letters' business."""
    old = Q()
    for state in RETIRED:
        old |= Q(state=state, finished_at__lt=Now() - retention(state))
    # The shortest again, alone: one range of the index on finished_at.
    found = Job.objects.filter(old, finished_at__lt=Now() - shortest_retention())
    return found.filter(~Exists(keys_in_force().filter(job=OuterRef("pk")))).order_by("finished_at")


def _jobless_events() -> QuerySet[Event]:
    return Event.objects.filter(job=None, at__lt=Now() - retention()).order_by("at")


def _forgotten_workers() -> QuerySet[Worker]:
    """A row whose jobs nobody has rescued yet must stay: its absence would say less about why they died."""
    held = Job.objects.unfinished().filter(worker_id=OuterRef("pk"), state=State.STARTED)
    old = Worker.objects.filter(state=Worker.State.DEAD, heartbeat_at__lt=Now() - DEAD_WORKER_AGE)
    return old.filter(~Exists(held)).order_by("heartbeat_at")
