"""What the API says about jobs, field by field. Names are a contract: fields are added, never renamed."""

import json
from datetime import datetime
from types import SimpleNamespace
from typing import Annotated, Any
from uuid import UUID

from django.conf import settings
from ninja import Schema
from pydantic import Field

from api.bodies import Body
from api.masking import masked
from api.prepared import on_django
from jobs import registry
from jobs.models import Job
from jobs.policies import policy

_SAME = ("attempt", "retries", "queue", "tags", "error", "error_code", "fingerprint",
         "created_at", "run_at", "started_at", "finished_at")  # fmt: skip
_MORE = ("traceback", "max_retries", "deaths", "expires_at", "cancel_requested_at", "callback_url")
_COLUMNS = ("id", "state", "task", *_SAME, *_MORE)
_JSON = ("payload", "result", "progress")
# The call made most often. Through the ORM, this would cost more than running it and answering (measured).
_DETAILED = f"""
SELECT {", ".join(f"job.{name}" for name in (*_COLUMNS, *_JSON))}, key.key AS given_key,
       (SELECT name FROM jobs_worker AS w WHERE w.id = job.worker_id) AS worker_name,
       (SELECT count(*) FROM jobs_event AS e WHERE e.job_id = job.id AND e.verb = 'replayed') AS replays
  FROM jobs_job AS job LEFT JOIN jobs_idempotencykey AS key ON key.job_id = job.id WHERE job.id = %(id)s::uuid
"""
_NAMES = (*_COLUMNS, *_JSON, "given_key", "worker_name", "replays")
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Tag = Annotated[str, Field(min_length=1, max_length=100)]


def _name_tasks(schema: dict[str, Any]) -> None:
    schema["enum"] = sorted(registry.tasks())


def _name_priorities(schema: dict[str, Any]) -> None:
    schema["enum"] = list(settings.PRIORITIES)


Priority = Annotated[str, Field(json_schema_extra=_name_priorities)]


class Submission(Body):
    """A job as a client asks for it."""

    task_type: str = Field(description="What GET /api/task-types names.", json_schema_extra=_name_tasks)
    priority: Priority | None = Field(None, description="Absent: the task's own queue.")
    payload: dict[str, Any] = Field({}, description="The task's arguments by name.")
    idempotency_key: str | None = Field(None, max_length=255, description="The header of that name does the same.")
    run_at: Moment | None = Field(None, description="Not before this time.")
    callback_url: str | None = Field(None, max_length=2000, description="POSTed to once the job is final.")
    tags: list[Tag] = Field([], max_length=20)

    def wanted(self) -> dict[str, Any]:
        """As `jobs.drafting.draft` takes it."""
        given = self.model_dump()
        return {
            "task": given.pop("task_type"),
            "queue": given.pop("priority"),
            "key": given.pop("idempotency_key"),
            **given,
        }


class Accepted(Schema):
    task_id: UUID
    status: str
    priority: str
    message: str
    replayed: bool = False
    result: Any = None


class Cancelled(Schema):
    task_id: UUID
    status: str = "revoked"


class JobSummary(Schema):
    """A job in a list."""

    task_id: UUID
    status: str
    task_type: str
    queue: str
    attempt: int
    retries: int
    tags: list[str]
    error: str | None
    error_code: str | None
    fingerprint: str | None
    created_at: datetime
    run_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobStatus(JobSummary):
    """Everything about a job; redacted fields are masked unless the caller may see them."""

    result: Any
    traceback: str | None
    payload: Any
    max_retries: int
    deaths: int
    progress: Any
    worker: str | None
    idempotency_key: str
    replayed: int
    expires_at: datetime | None
    cancel_requested_at: datetime | None
    callback_url: str | None


class JobAttempt(Schema):
    """A run that ended other than in success."""

    number: int
    outcome: str
    due_at: datetime | None
    started_at: datetime | None
    ended_at: datetime
    worker_name: str
    error_code: str
    error: str
    traceback: str
    fingerprint: str
    signal: int | None
    exit_code: int | None
    delay: float | None
    fenced_at: datetime | None


def detailed(job_id: UUID) -> Any:
    """What a job's row says, with what its status names from other tables; raises Job.DoesNotExist."""
    for row in on_django(_DETAILED, {"id": job_id}):
        job = dict(zip(_NAMES, row, strict=True))
        return SimpleNamespace(**job | {name: job[name] and json.loads(job[name]) for name in _JSON}, pk=job["id"])
    raise Job.DoesNotExist(job_id)


def status(job: Any, *, unmasked: bool) -> dict[str, Any]:
    hidden = () if unmasked else policy(job.task).redacted
    return (
        summary(job)
        | {name: getattr(job, name) for name in _MORE}
        | {
            "progress": job.progress,
            "result": masked(job.result, hidden),
            "payload": masked(job.payload, hidden),
            "worker": job.worker_name,
            "idempotency_key": job.given_key or str(job.pk),
            "replayed": job.replays,
        }
    )


def summary(job: Any) -> dict[str, Any]:
    return {name: getattr(job, name) for name in _SAME} | {
        "task_id": job.pk,
        "status": job.state,
        "task_type": job.task,
    }
