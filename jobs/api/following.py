"""Following a job: its status, its attempts, why it is not running, and waiting for its end."""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

from django.db import Error as DjangoError
from django.http import HttpRequest, StreamingHttpResponse
from ninja import Query, Router, Schema
from ninja.responses import NinjaJSONEncoder

from api.serving import in_background
from api.tokens import allowed, sees_payloads
from jobs import waiting, why
from jobs.api import shapes
from jobs.models import Attempt, Job

router = Router(tags=["tasks"], auth=allowed("read", "jobs.view_job"))
MOST_SECONDS = 60
Seconds = Annotated[float, Query(30, ge=0, le=MOST_SECONDS, description="How long to wait at most.")]


class Explanation(Schema):
    task_id: UUID
    status: str
    reasons: list[why.Reason]


@router.get("/tasks/{task_id}", response={200: shapes.JobStatus})
def task_status(request: HttpRequest, task_id: UUID) -> Any:
    """Where a job stands. An id that was never submitted is 404."""
    return _status(task_id, sees_payloads(request))


@router.get("/tasks/{task_id}/wait", response={200: shapes.JobStatus})
def wait_for_task(request: HttpRequest, task_id: UUID, timeout: Seconds) -> Any:
    """The same as the status, answered once the job is final, or after `timeout` seconds as it is then."""
    unmasked = sees_payloads(request)
    now = _status(task_id, unmasked)
    if now["finished_at"] is not None or timeout == 0:
        return now
    # The headers go out now and the body later, so that nobody who waits holds a thread or a connection.
    return StreamingHttpResponse(_later(now, timeout, unmasked), content_type="application/json")


@router.get("/tasks/{task_id}/attempts", response={200: list[shapes.JobAttempt]})
def task_attempts(request: HttpRequest, task_id: UUID) -> Any:
    """Every attempt that ended other than in success, oldest first."""
    Job.objects.only("pk").get(pk=task_id)
    return Attempt.objects.filter(job=task_id).order_by("number")


@router.get("/tasks/{task_id}/why", response={200: Explanation})
def why_not_running(request: HttpRequest, task_id: UUID) -> Any:
    """What the job waits for, the most decisive reason first."""
    job = why.look_up(task_id)
    return {"task_id": job.pk, "status": job.state, "reasons": why.reasons(job)}


async def _later(before: dict[str, Any], timeout: float, unmasked: bool) -> AsyncIterator[bytes]:
    await waiting.finished(before["task_id"], timeout)
    try:
        now = await in_background(_status, before["task_id"], unmasked)
    except DjangoError:
        # Too late for a 503: what was known at the start is still true of then.
        now = before
    yield json.dumps(now, cls=NinjaJSONEncoder).encode()


def _status(task_id: UUID, unmasked: bool) -> dict[str, Any]:
    return shapes.status(shapes.detailed(task_id), unmasked=unmasked)
