"""Doing something to every row that matches a filter: in the background, in bounded steps, each one transaction.

A step holds the operation's row, so that an abort waits for at most one step, and the rows it acts on. Rows are taken
in the order of their ids, and the last one's id commits with what was done to them: no restart does anything twice.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from api.tally import Tally
from jobs import driving
from jobs.browsing import Wanted, matching
from jobs.errors import Conflict
from jobs.models import BulkOperation, Event, Job
from jobs.states import State as JobState
from jobs.together import cancel_together, reinstate_together, retry_together

TASK = "run_operation"
PER_STEP = 200
# A row that somebody else changes this moment is met again so many seconds later.
BUSY_SECONDS = 0.1
# Counting more would keep the page that asks waiting; the first step then counts the rest.
MOST_COUNTED = 100_000
State = BulkOperation.State


@dataclass(frozen=True, kw_only=True)
class Act:
    """What an operation may do to many rows.

    `candidates` finds the rows of a filter as operations keep it; those whose `moment` is later than the operation
    are left alone. `do` acts on `rows` that its caller's transaction holds.
    """

    among: str
    candidates: Callable[[Mapping[str, Any]], QuerySet]
    rows: QuerySet
    do: Callable[..., Tally]
    moment: str = "created_at"
    overtaken: str


def _unfinished(chosen: Mapping[str, Any]) -> QuerySet[Job]:
    return matching(Wanted.from_json(chosen)).filter(finished_at=None)


def _revoked(chosen: Mapping[str, Any]) -> QuerySet[Job]:
    return matching(Wanted.from_json(chosen)).filter(state=JobState.REVOKED)


_WAITING: dict[str, Any] = {
    "among": "unfinished jobs",
    "candidates": _unfinished,
    "rows": Job.objects.only("pk", "state", "run_at", "cancel_requested_at"),
    "overtaken": "they finished before their turn",
}
# Apps above this one add theirs.
ACTS: dict[str, Act] = {
    "cancel": Act(**_WAITING, do=cancel_together),
    "retry_now": Act(**_WAITING, do=retry_together),
    "reinstate": Act(
        among="revoked jobs",
        candidates=_revoked,
        rows=Job.objects.only("pk", "task", "state"),
        do=reinstate_together,
        moment="finished_at",
        overtaken="they were reinstated before their turn",
    ),
}


def count(verb: str, chosen: Mapping[str, Any], *, most: int | None = None) -> int:
    """How many rows an operation would look at, but no more than `most`, or else MOST_COUNTED."""
    return ACTS[verb].candidates(chosen)[: most or MOST_COUNTED].count()


def start(verb: str, chosen: Mapping[str, Any], *, actor: str, reason: str) -> BulkOperation:
    """Begin to act on every row that matches by now; those that come to match later are left alone."""
    with transaction.atomic():
        operation = BulkOperation(
            verb=verb, filter=dict(chosen), reason=reason, created_by=actor, total=count(verb, chosen)
        )
        operation.save()
        driving.hand_over(operation, TASK)
        _note(operation, "bulk operation started", actor, filter=operation.filter, total=operation.total)
    return operation


def abort(operation_id: int, *, actor: str) -> BulkOperation:
    """Leave the rest alone; raises Conflict when it is over already."""
    with transaction.atomic():
        operation = BulkOperation.objects.select_for_update().get(pk=operation_id)
        if operation.state != State.RUNNING:
            raise Conflict(f"Bulk operation {operation_id} is {operation.state} already.")
        _end(operation, State.ABORTED, "bulk operation aborted", actor)
    return operation


def drive(operation_id: int, driver: UUID) -> None:
    """Carry an operation on for a while, then hand it to another job."""
    mine = driving.driven_by(BulkOperation.objects.all(), operation_id, driver)
    driving.drive(mine, TASK, lambda: advance(mine))


def adopt() -> int:
    """Carry on operations that nobody carries on any more; how many."""
    return driving.adopt(BulkOperation.objects.all(), TASK)


def advance(mine: QuerySet[BulkOperation]) -> float | None:
    """Deal with the next few rows; the seconds to the next step, None after the last."""
    with transaction.atomic():
        operation = mine.select_for_update().first()
        if operation is None:
            return None
        act = ACTS[operation.verb]
        if operation.position is None and operation.total == MOST_COUNTED:
            operation.total = _ahead(act, operation).count()
        ids = list(_ahead(act, operation).order_by("pk").values_list("pk", flat=True)[:PER_STEP])
        if not ids:
            _end(operation, State.DONE, "bulk operation done", operation.created_by)
            return None
        rows = _held(act, ids)
        if not rows:
            return BUSY_SECONDS
        how = {"actor": operation.created_by, "reason": operation.reason, "details": {"bulk_operation": operation.pk}}
        _record(operation, str(rows[-1].pk), act.do(rows, **how))
    return 0.0


def _ahead(act: Act, operation: BulkOperation) -> QuerySet:
    rows = act.candidates(operation.filter).filter(**{f"{act.moment}__lte": operation.created_at})
    return rows if operation.position is None else rows.filter(pk__gt=operation.position)


def _held(act: Act, ids: Sequence[Any]) -> list[Any]:
    """These rows, locked, up to the first that somebody else has locked.

    Waiting for that one while holding others is how two transactions come to wait for each other.
    """
    free = {row.pk: row for row in act.rows.filter(pk__in=ids).select_for_update(skip_locked=True, no_key=True)}
    return [free[pk] for pk in takewhile(free.__contains__, ids)]


def _record(operation: BulkOperation, position: str, tally: Tally) -> None:
    operation.position = position
    operation.done += len(tally.done)
    operation.skipped += len(tally.skipped)
    operation.skips = dict(Counter(operation.skips) + Counter(tally.skipped.values()))
    # Rows that came to match again after the count.
    operation.total = max(operation.total, operation.done + operation.skipped)
    operation.save()


def _end(operation: BulkOperation, state: str, verb: str, actor: str) -> None:
    left = operation.total - operation.done - operation.skipped
    if left:
        why = ACTS[operation.verb].overtaken if state == State.DONE else f"aborted by {actor}"
        operation.skips = dict(Counter(operation.skips) + Counter({why: left}))
        operation.skipped += left
    operation.state, operation.finished_at = state, Now()
    operation.save()
    operation.refresh_from_db()
    _note(operation, verb, actor, done=operation.done, skipped=operation.skipped, skips=operation.skips)


def _note(operation: BulkOperation, verb: str, actor: str, **details: Any) -> None:
    about = {"bulk_operation": operation.pk, "act": operation.verb, **details}
    Event.objects.create(verb=verb, actor=actor, reason=operation.reason, details=about)
