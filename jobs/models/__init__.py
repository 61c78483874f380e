from jobs.models.history import Attempt, Effect, Event
from jobs.models.job import IdempotencyKey, Job, JobLabel
from jobs.models.operation import BulkOperation
from jobs.models.workforce import Batch, Pace, Queue, Worker

__all__ = [
    "Attempt", "Batch", "BulkOperation", "Effect", "Event", "IdempotencyKey", "Job", "JobLabel", "Pace", "Queue",
    "Worker",
]  # fmt: skip
