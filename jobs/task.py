"""JobTask: the Celery base class that makes a task's calls durable jobs."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from uuid import UUID

import celery
from celery.exceptions import Ignore, Retry
from django.utils import timezone

from jobs import registry
from jobs.batching import answer
from jobs.canvas import JobSignature, refusal
from jobs.effects import RunningJob
from jobs.errors import InvalidJob, JobFailed, NotSupported
from jobs.execution import execute
from jobs.policies import Policy, policy
from jobs.settlement import Settled
from jobs.states import State
from jobs.submission import submit

EXIT_OUT_OF_HAND = 71
REFUSED = ("link", "link_error", "chain", "chord", "group_id", "reply_to", "time_limit", "soft_time_limit", "shadow")
# What Celery passes or users write that says nothing about a row.
MEANINGLESS = {
    "producer", "connection", "retry", "retry_policy", "serializer", "compression", "ignore_result", "add_to_parent",
    "root_id", "parent_id", "group_index", "replaced_task_nesting", "delivery_mode", "exchange", "routing_key",
}  # fmt: skip
# What Celery calls a field of a job
CELERYS_NAMES = {"/queue": "priority", "/delay": "countdown", "/run_at": "eta", "/expires_at": "expires"}


class JobTask(celery.Task):
    """Base class of every task whose calls must not be lost: `@shared_task(base=JobTask, name="send_email")`.

    `.delay()` and `.apply_async()` write a job and return its AsyncResult; the worker claims, runs and settles it.
    """

    abstract = True
    is_job = True
    Request = "jobs.request:JobRequest"
    ignore_result = True
    max_retries = None
    throws = (JobFailed,)
    job: RunningJob

    @classmethod
    def on_bound(cls, app: celery.Celery) -> None:
        """Celery gets the hard limit alone; the soft one is armed around the body (jobs.execution)."""
        cls.time_limit = policy(cls.name).hard_limit  # type: ignore[assignment]
        cls.soft_time_limit = None

    @property
    def policy(self) -> Policy:
        return policy(self.name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Called as a function, a task is its function; called by a worker, it is one attempt of a job, or of many."""
        if self.request.called_directly or self.request.is_eager:
            return self.run(*args, **kwargs)
        try:
            if queue := self.request.get("doorbell"):
                return answer(self, queue)
            settled = execute(self, UUID(self.request.id))
        except BaseException as error:
            _end_process_if_out_of_hand(error)
            raise
        return _tell_celery(settled)

    def apply_async(  # type: ignore[override]
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        **options: Any,
    ) -> Any:
        """Write a job instead of a message; what a job cannot take is refused by name."""
        _refuse_canvas(options)
        payload = registry.bound(self, tuple(args or ()), dict(kwargs or {}))
        try:
            job = submit(self, payload, job_id=task_id, **_options_of_a_job(dict(options)))
        except InvalidJob as error:
            name = CELERYS_NAMES.get(error.field)
            raise InvalidJob(f"/{name}", error.reason) if name in options else error from None
        return self.AsyncResult(str(job.id))

    def signature(self, args: Any = None, *more: Any, **options: Any) -> JobSignature:
        ours: dict[str, Any] = {"app": self.app, "subtask_type": "job"}
        return JobSignature(self, args, *more, **ours | options)

    subtask = signature

    def retry(  # noqa: PLR0917
        self,
        args: Any = None,
        kwargs: Any = None,
        exc: Exception | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> NoReturn:
        """Ask for another try; the policy counts, the dispatcher waits. Arguments cannot change on the way."""
        if args is not None or kwargs is not None:
            raise NotSupported("/retry", "a job's arguments cannot change between tries; submit another job")
        if self.request.called_directly or (max_retries is not None and self.request.retries >= max_retries):
            raise exc or self.MaxRetriesExceededError(f"{self.name} asked for more than {max_retries} retries.")
        if eta is not None:
            countdown = max(0.0, (eta - timezone.now()).total_seconds())
        raise Retry(exc=exc, when=countdown)  # type: ignore[arg-type]


def _end_process_if_out_of_hand(error: BaseException) -> None:
    """An error outside the body has no outcome; a MemoryError that reached the parent would stop the whole worker.

    The parent sees this process end, records the death of what it held, and starts another. SystemExit is
    how processes are told to end, and goes its own way.
    """
    if isinstance(error, MemoryError) or not isinstance(error, (Exception, SystemExit)):
        os._exit(EXIT_OUT_OF_HAND)


def _tell_celery(settled: Settled | None) -> None:
    """Celery only ever sees these three: its own logs and events stay right, and all of them can be pickled."""
    if settled is None or settled.state in (None, State.REVOKED, State.PENDING):
        raise Ignore
    if settled.state == State.RETRY:
        raise Retry(when=settled.delay)  # type: ignore[arg-type]
    if settled.state == State.FAILURE:
        raise JobFailed("dead letter written")


def _refuse_canvas(options: dict[str, Any]) -> None:
    for name in REFUSED:
        if options.pop(name, None):
            raise refusal(name)


def _options_of_a_job(options: dict[str, Any]) -> dict[str, Any]:
    ours = {
        "queue": options.pop("queue", None) or options.pop("priority", None),
        "delay": options.pop("countdown", None) or 0,
        "run_at": _utc(options.pop("eta", None)),
        "expires_at": _expiry(options.pop("expires", None)),
        "trace": options.pop("headers", None) or None,
    }
    # An option that would be dropped in silence is a bug waiting for 3 am.
    for name in sorted(options.keys() - MEANINGLESS):
        raise NotSupported(f"/{name}", "is not an option of a job")
    return ours


def _utc(eta: datetime | None) -> datetime | None:
    """Celery reads a naive eta as UTC."""
    return eta.replace(tzinfo=UTC) if isinstance(eta, datetime) and eta.tzinfo is None else eta


def _expiry(expires: float | datetime | None) -> datetime | None:
    if isinstance(expires, (int, float)):
        try:
            return timezone.now() + timedelta(seconds=expires)
        except (ValueError, OverflowError):
            raise InvalidJob("/expires", f"{expires!r} seconds from now is no moment in time") from None
    if expires is not None and not isinstance(expires, datetime):
        raise InvalidJob("/expires", f"{expires!r} is neither seconds nor a time")
    return _utc(expires)
