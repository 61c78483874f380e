"""Acting on jobs and queues: each act is one domain verb."""

from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Router, Schema, Status
from pydantic import Field

from api.bodies import Body
from api.problems import Problem
from api.tokens import actor, allowed, sees_payloads
from jobs import cancellation, pausing
from jobs.api import shapes
from jobs.errors import InvalidJob
from jobs.models import Queue

router = Router()
Reason = Annotated[str, Field(min_length=1, max_length=2000)]


class Pause(Body):
    reason: Reason = Field(description="Shown to everybody who wonders why nothing runs.")


class PausedQueue(Schema):
    name: str
    paused: bool
    paused_by: str
    pause_reason: str


@router.delete(
    "/tasks/{task_id}/cancel",
    auth=allowed("operate", "jobs.cancel_job"),
    response={200: shapes.Cancelled, 202: shapes.Cancelled},
    tags=["tasks"],
)
def cancel_task(request: HttpRequest, task_id: UUID) -> Any:
    """Cancel a job: 200, it will not run; 202, it runs and is REVOKED as soon as its worker has ended it."""
    done = cancellation.cancel(task_id, actor=actor(request))
    return Status(200 if done.at_once else 202, {"task_id": task_id, "status": "revoked"})


@router.post(
    "/tasks/{task_id}/retry",
    auth=allowed("operate", "jobs.retry_job"),
    response={202: shapes.JobStatus},
    tags=["tasks"],
)
def retry_task(request: HttpRequest, task_id: UUID) -> Any:
    """Make a job that waits for its retry, or for its time, due now."""
    cancellation.retry_now(task_id, actor=actor(request))
    job = shapes.detailed(task_id)
    return shapes.status(job, unmasked=sees_payloads(request))


@router.put(
    "/queues/{name}/pause",
    auth=allowed("operate", "jobs.pause_queue"),
    response={200: PausedQueue},
    tags=["queues"],
)
def pause_queue(request: HttpRequest, name: str, pause: Pause) -> Any:
    """Let nothing of this queue start. Running jobs finish, waiting ones wait, over every restart."""
    _known(name)
    pausing.pause(name, actor=actor(request), reason=pause.reason)
    return _paused(name)


@router.delete(
    "/queues/{name}/pause",
    auth=allowed("operate", "jobs.pause_queue"),
    response={200: PausedQueue},
    tags=["queues"],
)
def resume_queue(request: HttpRequest, name: str) -> Any:
    """Let a paused queue go on."""
    _known(name)
    pausing.resume(name, actor=actor(request))
    return _paused(name)


def _known(name: str) -> None:
    """A name in the address that is unknown is not a field that is wrong."""
    try:
        pausing.known(name)
    except InvalidJob as error:
        raise Problem("not-found", f"Queue {error.reason}.") from None


def _paused(name: str) -> dict[str, Any]:
    queue = Queue.objects.get(name=name)
    return {
        "name": name,
        "paused": queue.is_paused,
        "paused_by": queue.paused_by,
        "pause_reason": queue.pause_reason,
    }
