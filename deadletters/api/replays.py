"""Replays of many letters over HTTP: start, watch, pause, resume, abort."""

from typing import Annotated, Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from ninja import Query, Router, Status
from pydantic import Field

from api.bodies import Body
from api.moments import Moment
from api.paging import page, page_by_id
from api.parameters import Cursor, Limit
from api.problems import Problem, invalid
from api.tokens import actor, allowed, may
from deadletters import operations
from deadletters.api import shapes
from deadletters.api.letters import LetterId, Reason
from deadletters.models import DeadLetter, ReplayItem, ReplayOperation

router = Router(tags=["dead letters"])
READ = allowed("read", "deadletters.view_replayoperation")
ACT = allowed("operate", "deadletters.replay_deadletter")
SAMPLE = 20
MOST_IDS = 10_000
Text = Annotated[str, Field(max_length=100)]


class Filter(Body):
    """Which open letters; everything that is given must hold, and nothing means all of them."""

    task_type: Text | None = None
    queue: Text | None = None
    cause: Text | None = Field(None, json_schema_extra={"enum": [*DeadLetter.Cause.values, None]})
    fingerprint: Text | None = None
    since: Moment | None = None
    until: Moment | None = None
    letters: list[LetterId] | None = Field(None, min_length=1, max_length=MOST_IDS)

    def chosen(self) -> Any:
        if self.cause is not None and self.cause not in DeadLetter.Cause.values:
            raise invalid("/filter/cause", f"must be one of {', '.join(DeadLetter.Cause.values)}")
        found = DeadLetter.objects.matching(
            task=self.task_type,
            queue=self.queue,
            cause=self.cause,
            fingerprint=self.fingerprint,
            since=self.since,
            until=self.until,
        )
        return found if self.letters is None else found.filter(pk__in=self.letters)


class NewReplay(Body):
    filter: Filter
    reason: Reason
    pace: float = Field(10, gt=0, le=1000, allow_inf_nan=False, description="Jobs per second.")
    patch: dict[str, Any] | None = Field(None, description="A JSON merge patch (RFC 7396) for every payload.")
    dry_run: bool = False


@router.post("/replays", auth=ACT, response={202: shapes.Replay, 200: shapes.DryRun})
def start_replay(request: HttpRequest, response: HttpResponse, order: NewReplay) -> Any:
    """Replay many letters at a pace. 200: a dry run, nothing was done; 202: it runs and survives restarts."""
    letters = order.filter.chosen()
    if order.patch is not None and not may(request, "operate", "deadletters.edit_payload"):
        raise Problem("forbidden", "This needs the permission 'deadletters.edit_payload'.")
    if order.dry_run:
        return Status(200, shapes.preview(letters, order.patch, SAMPLE))
    operation = operations.start(
        letters,
        filter=order.filter.model_dump(mode="json", exclude_none=True),
        actor=actor(request),
        reason=order.reason,
        pace=order.pace,
        patch=order.patch,
    )
    response["Location"] = reverse("api-1:replay", args=[operation.pk])
    return Status(202, shapes.operation(operation))


@router.get("/replays", auth=READ, response={200: shapes.ReplayPage})
def list_replays(request: HttpRequest, cursor: Cursor, limit: Limit) -> Any:
    """Replays, newest first."""
    found = page(ReplayOperation.objects.all(), cursor, limit)
    return {"items": [shapes.operation(row) for row in found.rows], "next": found.next}


@router.get("/replays/{replay_id}", auth=READ, response={200: shapes.Replay})
def replay(request: HttpRequest, replay_id: LetterId) -> Any:
    """How far a replay has come."""
    return shapes.operation(_operation(replay_id))


@router.get("/replays/{replay_id}/items", auth=READ, response={200: shapes.ItemPage})
def list_replay_items(
    request: HttpRequest,
    replay_id: LetterId,
    cursor: Cursor,
    limit: Limit,
    state: Annotated[ReplayItem.State | None, Query(None)],
) -> Any:
    """What became of each letter."""
    items = _operation(replay_id).items.filter(**({} if state is None else {"state": state}))
    found = page_by_id(items, cursor, limit)
    return {"items": found.rows, "next": found.next}


@router.post("/replays/{replay_id}/pause", auth=ACT, response={200: shapes.Replay})
def pause_replay(request: HttpRequest, replay_id: LetterId) -> Any:
    """Let nothing more of it run until it is resumed."""
    return shapes.operation(operations.pause(_operation(replay_id).pk, actor=actor(request)))


@router.post("/replays/{replay_id}/resume", auth=ACT, response={200: shapes.Replay})
def resume_replay(request: HttpRequest, replay_id: LetterId) -> Any:
    """Go on where it was paused."""
    return shapes.operation(operations.resume(_operation(replay_id).pk, actor=actor(request)))


@router.post("/replays/{replay_id}/abort", auth=ACT, response={200: shapes.Replay})
def abort_replay(request: HttpRequest, replay_id: LetterId) -> Any:
    """End it for good. Letters that still wait stay open."""
    return shapes.operation(operations.abort(_operation(replay_id).pk, actor=actor(request)))


def _operation(replay_id: int) -> ReplayOperation:
    operation = ReplayOperation.objects.filter(pk=replay_id).first()
    if operation is None:
        raise Problem("not-found", "There is no replay with this id.")
    return operation
