"""Long operations, carried on in small steps by one job after the other.

An operation is a row that names the job that drives it: whatever is killed or restarted, nobody else takes a step,
and the next step starts where the last one committed.
"""

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from jobs.ids import uuid7
from jobs.models import Job
from jobs.submission import submit

# A job that carries an operation on gives way after this long, so that others of its queue get their turn.
SLICE_SECONDS = 20.0


def hand_over(operation: Any, task: str, *, delay: float = 0) -> None:
    """Save an operation with another job, of `task`, as the only one that may carry it on; `delay` in seconds."""
    operation.driver = uuid7()
    operation.save()
    submit(task, {"operation": operation.pk}, job_id=operation.driver, delay=delay)


def drive(mine: QuerySet, task: str, step: Callable[[], float | None]) -> None:
    """Take steps for a while, then hand over.

    `mine` is the operation as long as this job drives it; `step` returns the seconds to the next, None after the last.
    """
    until = time.monotonic() + SLICE_SECONDS
    while (wait := step()) is not None:
        if time.monotonic() + wait > until:
            _give_way(mine, task, delay=wait)
            return
        time.sleep(wait)


def driven_by(operations: QuerySet, operation_id: int, driver: UUID) -> QuerySet:
    """The operation, as long as it runs and this job drives it."""
    return operations.filter(pk=operation_id, state="RUNNING", driver=driver)


def adopt(operations: QuerySet, task: str) -> int:
    """Give every running operation whose job is over (cancelled, say) a new one; how many."""
    alive = Job.objects.unfinished().filter(pk=OuterRef("driver"))
    left_alone = operations.filter(~Exists(alive), state="RUNNING")
    with transaction.atomic():
        found = list(left_alone.select_for_update(skip_locked=True))
        for operation in found:
            hand_over(operation, task)
    return len(found)


def _give_way(mine: QuerySet, task: str, *, delay: float) -> None:
    with transaction.atomic():
        if operation := mine.select_for_update().first():
            hand_over(operation, task, delay=delay)
