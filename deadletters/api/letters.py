"""Dead letters over HTTP: look, replay one, drop one."""

from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Router
from pydantic import Field

from api.bodies import Body
from api.moments import Moment
from api.paging import page
from api.parameters import Cursor, Limit
from api.problems import Problem
from api.tokens import actor, allowed, may, sees_payloads
from api.unmasking import unmasked
from deadletters import drop, replay
from deadletters.api import shapes
from deadletters.grouping import groups
from deadletters.models import DeadLetter
from jobs.api.shapes import JobStatus, detailed, status

router = Router(tags=["dead letters"], auth=allowed("read", "deadletters.view_deadletter"))
Reason = Annotated[str, Field(min_length=1, max_length=2000, description="Kept with the letter.")]
LetterId = Annotated[int, Field(ge=1, le=2**63 - 1)]
Text = Annotated[str | None, Query(None, max_length=100, pattern=r"^[^\x00]*$")]
Time = Annotated[Moment | None, Query(None)]
Cause = Annotated[DeadLetter.Cause | None, Query(None)]
OPEN, RESOLVED, ALL = "open", "resolved", "all"


class ReplayOne(Body):
    reason: Reason
    payload: dict[str, Any] | None = Field(None, description="Other arguments; masks keep what is stored.")


class Drop(Body):
    reason: Reason


@router.get("/dead-letters", response={200: shapes.LetterPage})
def list_dead_letters(
    request: HttpRequest,
    *,
    cursor: Cursor,
    limit: Limit,
    status: Annotated[str, Query(OPEN, pattern=f"^({OPEN}|{RESOLVED}|{ALL})$")],
    task_type: Text,
    queue: Text,
    cause: Cause,
    fingerprint: Text,
    task_id: Annotated[UUID | None, Query(None)],
    since: Time,
    until: Time,
) -> Any:
    """Dead letters, newest first; the open ones unless told otherwise."""
    letters = DeadLetter.objects.matching(
        task=task_type, queue=queue, cause=cause, fingerprint=fingerprint, job=task_id, since=since, until=until
    )
    if status != ALL:
        letters = letters.open() if status == OPEN else letters.resolved()
    found = page(letters.defer("payload_before", "payload_after"), cursor, limit)
    return {"items": [shapes.letter(row) for row in found.rows], "next": found.next}


@router.get("/dead-letters/groups", response={200: list[shapes.LetterGroup]})
def list_dead_letter_groups(
    request: HttpRequest, *, limit: Limit, task_type: Text, queue: Text, cause: Cause, since: Time, until: Time
) -> Any:
    """Open letters by what went wrong, the biggest groups first."""
    letters = DeadLetter.objects.matching(task=task_type, queue=queue, cause=cause, since=since, until=until)
    return [group | {"sample": shapes.letter(group["sample"])} for group in groups(letters.open(), limit)]


@router.get("/dead-letters/{letter_id}", response={200: shapes.LetterDetails})
def dead_letter(request: HttpRequest, letter_id: LetterId) -> Any:
    """A letter with its job's payload and traceback."""
    return shapes.details(_letter(letter_id), unmasked=sees_payloads(request))


@router.post(
    "/dead-letters/{letter_id}/replay",
    auth=allowed("operate", "deadletters.replay_deadletter"),
    response={202: JobStatus},
)
def replay_dead_letter(request: HttpRequest, letter_id: LetterId, order: ReplayOne) -> Any:
    """Run the job again from the start, under its own id and idempotency key."""
    letter = _letter(letter_id)
    payload = None if order.payload is None else unmasked(order.payload, letter.job.payload)
    if payload is not None and not may(request, "operate", "deadletters.edit_payload"):
        raise Problem("forbidden", "This needs the permission 'deadletters.edit_payload'.")
    replay.replay(letter, actor=actor(request), reason=order.reason, payload=payload)
    return status(detailed(letter.job_id), unmasked=sees_payloads(request))


@router.post(
    "/dead-letters/{letter_id}/drop",
    auth=allowed("operate", "deadletters.drop_deadletter"),
    response={200: shapes.LetterDetails},
)
def drop_dead_letter(request: HttpRequest, letter_id: LetterId, order: Drop) -> Any:
    """Close the letter for good; its job stays failed."""
    drop.drop(_letter(letter_id), actor=actor(request), reason=order.reason)
    return shapes.details(_letter(letter_id), unmasked=sees_payloads(request))


def _letter(letter_id: int) -> DeadLetter:
    letter = DeadLetter.objects.select_related("job").filter(pk=letter_id).first()
    if letter is None:
        raise Problem("not-found", "There is no dead letter with this id.")
    return letter
