"""Tasks of the house: carrying bulk operations on."""

from typing import Any

from celery import shared_task

from jobs import operations
from jobs.task import JobTask


@shared_task(base=JobTask, name=operations.TASK, bind=True)
def run_operation(self: JobTask, operation: int) -> None:
    """Carry a bulk operation on for a while."""
    if self.job is not None:
        operations.drive(operation, self.job.id)


@shared_task(base=JobTask, name="resume_operations")
def resume_operations() -> dict[str, Any]:
    """Carry on bulk operations that nobody does any more."""
    return {"adopted": operations.adopt()}
