"""Rows to arrange tests with, and how to put them in any state by legal moves only."""

from typing import Any

from django.db import connection

from jobs.models import Job, Worker
from jobs.processes import me
from jobs.submission import submit


def make_worker(**fields: Any) -> Worker:
    """A worker row; by default that of this very process, so that it may claim."""
    given = {"id": me.worker, "kind": "worker", "name": "test", "host": "here", "pid": 1, "state": "UP"} | fields
    worker, _ = Worker.objects.update_or_create(id=given.pop("id"), defaults=given)
    return worker


def make_job(task: str = "flaky", payload: dict[str, Any] | None = None, **fields: Any) -> Job:
    """A submitted job; options of submit go there, everything else is set on the row."""
    known = ("key", "scope", "queue", "run_at", "delay", "expires_at", "callback_url", "tags", "job_id", "schedule")
    options = {name: fields.pop(name) for name in known if name in fields}
    job = submit(task, {"failures": 0} if payload is None and task == "flaky" else payload, **options)
    if fields:
        Job.objects.filter(pk=job.pk).update(**fields)
        job.refresh_from_db()
    return job


def force_state(job: Job, state: str, **fields: Any) -> None:
    """Put a row in a state without asking the trigger, for tests about what may happen next."""
    values = {"state": state, "finished_at": None} | fields
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE jobs_job DISABLE TRIGGER jobs_job_guard")
        Job.objects.filter(pk=job.pk).update(**values)
        cursor.execute("ALTER TABLE jobs_job ENABLE TRIGGER jobs_job_guard")
    job.refresh_from_db()
