"""Celery tasks of this app."""

from typing import Any

from celery import shared_task

from deadletters import operations
from jobs.task import JobTask


@shared_task(base=JobTask, name=operations.TASK, bind=True)
def replay_letters(self: JobTask, operation: int) -> None:
    """Carry a replay operation on for a while."""
    if self.job is not None:
        operations.drive(operation, self.job.id)


@shared_task(base=JobTask, name="resume_replays")
def resume_replays() -> dict[str, Any]:
    """Carry on replay operations that nobody does any more."""
    return {"adopted": operations.adopt()}
