"""What can go wrong with a job, as the caller or the task body sees it."""

from typing import Any


class JobError(Exception):
    """Base of every error Switchyard raises; catch a leaf, or this for all of them."""


class InvalidJob(JobError):
    """A job was refused before anything was written. `field` is a JSON Pointer to what was wrong."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class UnknownTask(InvalidJob):
    """No task of that name is registered."""


class NotSupported(InvalidJob):
    """An option of Celery's that jobs do not take (link, chain, group, chord)."""


class QueueFull(JobError):
    """The task's queue already holds `max_depth` waiting jobs; try again in `retry_after` seconds."""

    def __init__(self, queue: str, depth: int, limit: int, *, retry_after: int = 5) -> None:
        super().__init__(f"Queue '{queue}' holds {depth} waiting jobs, the limit is {limit}: try again later.")
        self.retry_after = retry_after


class KeyReused(JobError):
    """The idempotency key belongs to a job with another body; `job_id` names it."""

    def __init__(self, key: str, job_id: Any) -> None:
        super().__init__(f"idempotency_key '{key}' was already used for job {job_id} with another body.")
        self.key = key
        self.job_id = job_id


class KeyBusy(JobError):
    """A first request with the same idempotency key is still in its transaction; try again shortly."""

    def __init__(self, key: str) -> None:
        super().__init__(f"idempotency_key '{key}' is being used by a request that has not finished: try again.")
        self.key = key


class JobExists(JobError):
    """A job with the id the caller chose exists already."""

    def __init__(self, job_id: Any) -> None:
        super().__init__(f"task_id: a job with id {job_id} exists already.")
        self.job_id = job_id


class Conflict(JobError):
    """The job's state does not allow what was asked of it."""


class Abandon(JobError):
    """Raised by a task body: this job can never work, make it a dead letter with this reason at once."""


class JobFailed(JobError):
    """What Celery is told when an attempt failed; always picklable, unlike the task's own exception."""


class Unanswered(JobError):
    """A job was exhausted and nobody buried it: the settlement is rolled back."""
