"""What the driver of a bulk operation does, step by step."""

from jobs import operations
from jobs.driving import driven_by
from jobs.models import BulkOperation


def step(operation: BulkOperation) -> float | None:
    operation.refresh_from_db()
    return operations.advance(driven_by(BulkOperation.objects.all(), operation.pk, operation.driver))


def finish(operation: BulkOperation) -> BulkOperation:
    while step(operation) is not None:
        pass
    operation.refresh_from_db()
    return operation


def handled(operation: BulkOperation) -> int:
    operation.refresh_from_db()
    return operation.done
