"""Replaying many letters at a chosen pace: chosen once, then carried on in small steps by one job after the other.

Everything an operation is about stands in its row and its items, so whatever is killed or restarted, the next
step starts where the last one committed. Each step is one transaction that holds the operation's row: two
drivers cannot take the same letters or exceed the pace, and an abort waits for at most one step.
"""

import math
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.core.exceptions import EmptyResultSet
from django.db import connection, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from api.tally import Tally
from deadletters import replay
from deadletters.models import DeadLetter, ReplayItem, ReplayOperation
from deadletters.replaying import replay_together
from deadletters.resolution import REFUSALS
from jobs import driving
from jobs.drafting import draft
from jobs.errors import Conflict, InvalidJob
from jobs.models import Event

TASK = "replay_letters"
STEP_SECONDS = 0.1
# Bounds how long a step holds the row, and so how long an abort can take.
MOST_PER_STEP = 100
# A stall of up to so long is made up for, at no more than twice the pace: whoever chose it meant it as a limit, too.
CATCH_UP = timedelta(seconds=30)
HURRY = 2.0
State = ReplayOperation.State

_CHOOSE = """
INSERT INTO deadletters_replayitem (operation_id, letter_id, state, note)
SELECT %s, letter.id, 'WAITING', '' FROM ({letters}) AS letter(id) ORDER BY letter.id
ON CONFLICT DO NOTHING
"""


def start(
    letters: Any, *, filter: dict[str, Any], actor: str, reason: str, pace: float, patch: dict[str, Any] | None
) -> ReplayOperation:
    """Take every open letter of a set into a new operation and start it. Letters of another one are left to that."""
    with transaction.atomic():
        operation = ReplayOperation.objects.create(
            filter=filter, created_by=actor, reason=reason, pace=pace, patch=patch
        )
        operation.total = _choose(operation, letters)
        driving.hand_over(operation, TASK)
        _note(operation, "replay started", actor, reason)
    return operation


def pause(operation_id: int, *, actor: str) -> ReplayOperation:
    """Let nothing more of it run until it is resumed; raises Conflict when it is not running."""
    return _move(operation_id, [State.RUNNING], State.PAUSED, actor=actor, verb="replay paused")


def resume(operation_id: int, *, actor: str) -> ReplayOperation:
    """Go on where it was paused; raises Conflict when it is not paused."""
    with transaction.atomic():
        operation = _move(operation_id, [State.PAUSED], State.RUNNING, actor=actor, verb="replay resumed")
        operation.next_at = None
        driving.hand_over(operation, TASK)
    return operation


def abort(operation_id: int, *, actor: str) -> ReplayOperation:
    """End it; letters that still wait stay open. Raises Conflict when it is over already."""
    with transaction.atomic():
        going = [State.RUNNING, State.PAUSED]
        operation = _move(operation_id, going, State.ABORTED, actor=actor, verb="replay aborted", finished_at=Now())
        waiting = operation.items.filter(state=ReplayItem.State.WAITING)
        left = waiting.update(state=ReplayItem.State.SKIPPED, note=f"Aborted by {actor}.", at=Now())
        ReplayOperation.objects.filter(pk=operation.pk).update(skipped=F("skipped") + left)
    operation.refresh_from_db()
    return operation


def drive(operation_id: int, driver: UUID) -> None:
    """Carry an operation on for a while, then hand it to another job."""
    mine = driving.driven_by(ReplayOperation.objects.all(), operation_id, driver)
    driving.drive(mine, TASK, partial(advance, mine))


def advance(mine: QuerySet[ReplayOperation]) -> float | None:
    """Replay the letters that are due at the operation's pace; the seconds to the next step, None after the last."""
    with transaction.atomic():
        operation = mine.select_for_update().annotate(now=Now()).first()
        if operation is None:
            return None
        due = _due(operation)
        waiting = operation.items.filter(state=ReplayItem.State.WAITING).select_related("letter__job").order_by("pk")
        items = list(waiting[:due]) if due else []
        if items:
            _settle(operation, items, _replay(operation, items))
        elif due:
            operation.state, operation.finished_at = State.DONE, operation.now
        operation.save()
        return _wait(operation, len(items)) if operation.state == State.RUNNING else None


def adopt() -> int:
    """Carry on operations that nobody carries on any more; how many."""
    return driving.adopt(ReplayOperation.objects.all(), TASK)


def why_not(letter: DeadLetter, patch: dict[str, Any] | None) -> str | None:
    """Why this letter would be skipped, as far as the rows at hand tell, or None."""
    if why := replay.why_not(letter):
        return why
    if patch is None:
        return None
    try:
        draft(letter.task, patched(letter.job.payload, patch))
    except InvalidJob as refusal:
        return str(refusal)
    return None


def patched(payload: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7396) applied."""
    if not isinstance(patch, dict):
        return patch
    changed = dict(payload) if isinstance(payload, dict) else {}
    for name, value in patch.items():
        if value is None:
            changed.pop(name, None)
        else:
            changed[name] = patched(changed.get(name), value)
    return changed


def _choose(operation: ReplayOperation, letters: Any) -> int:
    try:
        query, given = letters.open().order_by().values("pk").query.sql_with_params()
    except EmptyResultSet:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(_CHOOSE.format(letters=query), [operation.pk, *given])
        return cursor.rowcount


def _due(operation: Any) -> int:
    """How many letters to replay now, and when the one after them is due (a generic cell rate algorithm).

    Due times follow from each other and not from when they were met, so that lateness does not add up.
    """
    earliest = max(operation.next_at or operation.now, operation.now - CATCH_UP)
    if earliest > operation.now:
        return 0
    due = 1 + math.floor((operation.now - earliest).total_seconds() * operation.pace)
    count = min(due, MOST_PER_STEP, math.ceil(HURRY * operation.pace * STEP_SECONDS))
    operation.next_at = earliest + timedelta(seconds=count / operation.pace)
    return count


def _wait(operation: Any, sent: int) -> float:
    """Until a step's worth is due; when more than that is, as long as twice the pace takes for what was sent."""
    ahead = (operation.next_at - operation.now).total_seconds()
    return sent / (HURRY * operation.pace) if ahead < -STEP_SECONDS else max(STEP_SECONDS, ahead)


def _replay(operation: ReplayOperation, items: list[ReplayItem]) -> Tally:
    how = {"actor": operation.created_by, "reason": operation.reason}
    letters = [item.letter for item in items]
    if operation.patch is None:
        return replay_together(letters, **how)
    tally = Tally()
    for letter in letters:
        # Each has a payload of its own to check, and may be refused by itself.
        try:
            with transaction.atomic():
                replay.replay(letter, payload=patched(letter.job.payload, operation.patch), **how)
        except REFUSALS as refusal:
            tally.skipped[letter.pk] = str(refusal)
        else:
            tally.done.append(letter.pk)
    return tally


def _settle(operation: Any, items: list[ReplayItem], tally: Tally) -> None:
    mine = operation.items.filter(letter__in=tally.done)
    mine.update(state=ReplayItem.State.REPLAYED, at=operation.now)
    DeadLetter.objects.filter(pk__in=tally.done).update(operation=operation)
    skipped = [item for item in items if item.letter_id in tally.skipped]
    for item in skipped:
        item.state, item.note, item.at = ReplayItem.State.SKIPPED, tally.skipped[item.letter_id], operation.now
    ReplayItem.objects.bulk_update(skipped, ["state", "note", "at"])
    operation.done += len(tally.done)
    operation.skipped += len(items) - len(tally.done)


def _move(
    operation_id: int, before: Sequence[str], after: str, *, actor: str, verb: str, **values: Any
) -> ReplayOperation:
    with transaction.atomic():
        operations = ReplayOperation.objects.filter(pk=operation_id)
        moved = operations.filter(state__in=before).update(state=after, **values)
        operation = operations.get()
        if not moved:
            raise Conflict(f"Replay {operation_id} is {operation.state}.")
        _note(operation, verb, actor, operation.reason)
        return operation


def _note(operation: ReplayOperation, verb: str, actor: str, reason: str) -> None:
    Event.objects.create(verb=verb, actor=actor, reason=reason, details={"operation": operation.pk})
