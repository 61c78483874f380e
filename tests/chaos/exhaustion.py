"""Tasks that need more memory than there is, and traps around attempts; loaded with `-I tests.chaos.exhaustion`."""

import os
from pathlib import Path
from typing import Any

from celery import shared_task

from jobs import execution, handful
from jobs.models import Job
from jobs.querysets import Held
from jobs.task import JobTask

BEFORE_CLAIM, AFTER_CLAIM = "before the claim", "after the claim"
BEFORE_SETTLING, AFTER_SETTLING = "before the settlement", "after the settlement"
MEGABYTE = 1 << 20


class _Wild(BaseException):
    pass


KINDS = {"MemoryError": MemoryError, "KeyboardInterrupt": KeyboardInterrupt, "a BaseException": _Wild}
BUG = {"a bug": RuntimeError}
_met: set[str] = set()


class _ShortBeforeItsStart(JobTask):
    abstract = True

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Celery calls this before it calls us; once in each process it fails."""
        if task_id not in _met:
            _met.add(task_id)
            raise MemoryError


@shared_task(base=JobTask, name="chaos_short", bind=True)
def short(self: JobTask, place: str, kind: str = "MemoryError", times: int = 1) -> int:
    """Do nothing; around the body, at `place`, the first `times` attempts raise an error of that kind."""
    return self.job.attempt


@shared_task(base=JobTask, name="chaos_short_batch", bind=True)
def short_batch(self: JobTask, place: str = "", kind: str = "MemoryError", times: int = 1) -> int:
    """The same, delivered by batch."""
    return self.job.attempt


@shared_task(base=_ShortBeforeItsStart, name="chaos_short_before", bind=True)
def short_before(self: JobTask) -> int:
    return self.job.attempt


@shared_task(base=JobTask, name="chaos_huge_result")
def huge_result(megabytes: int) -> str:
    return "x" * megabytes * MEGABYTE


@shared_task(base=JobTask, name="chaos_hog", bind=True)
def hog(self: JobTask, group: str, megabytes: int, times: int = 1) -> int:
    """Join a control group with little memory and want more than it has, on the first `times` attempts."""
    if self.job.attempt > times:
        return self.job.attempt
    Path(group, "cgroup.procs").write_text(str(os.getpid()))
    return len(b"x" * megabytes * MEGABYTE)


def _claim_in_short_memory(job_id: Any, *, until: float) -> list[Held]:
    job = Job.objects.get(pk=job_id)
    if job.payload.get("place") == BEFORE_CLAIM and job.dispatch_no == 1:
        raise (KINDS | BUG)[job.payload.get("kind", "MemoryError")]
    held = _claim(job_id, until=until)
    _fail_at(AFTER_CLAIM, held)
    return held


def _settle_in_short_memory(job: Held, outcome: Any, *, until: float | None = None) -> Any:
    _fail_at(BEFORE_SETTLING, [job])
    settled = _settle(job, outcome, until=until)
    _fail_at(AFTER_SETTLING, [job])
    return settled


def _succeed_in_short_memory(done: Any, *, until: float) -> None:
    _fail_at(BEFORE_SETTLING, [job for job, _ in done])
    _succeed(done, until=until)


def _fail_at(place: str, held: list[Held]) -> None:
    for job in held:
        if job.payload.get("place") == place and job.attempt <= job.payload.get("times", 1):
            raise (KINDS | BUG)[job.payload.get("kind", "MemoryError")]


_claim, _settle, _succeed = execution.claim, execution.settle, handful.succeed_together
if os.environ.get("TRAPS") == "memory":
    execution.claim, execution.settle = _claim_in_short_memory, _settle_in_short_memory  # type: ignore[assignment]
    handful.succeed_together = _succeed_in_short_memory  # type: ignore[assignment]
