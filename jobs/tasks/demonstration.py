"""Tasks that fail on purpose: for demonstrations, tests, and trying the control panel."""

import os
import signal
import time
from typing import Annotated, Any

from celery import shared_task
from pydantic import Field

from jobs.errors import Abandon
from jobs.task import JobTask

STEP_SECONDS = 0.1


@shared_task(base=JobTask, name="always_fails")
def always_fails(message: str = "This task always fails.") -> None:
    """Raise on every attempt."""
    raise RuntimeError(message)


@shared_task(base=JobTask, name="flaky", bind=True)
def flaky(self: JobTask, failures: Annotated[int, Field(ge=0, le=100)] = 1) -> dict[str, Any]:
    """Fail the first `failures` attempts since the last replay, then succeed."""
    if self.job.retries < failures:
        raise ConnectionError(f"Failure {self.job.retries + 1} of {failures}.")
    return {"status": "done", "attempt": self.job.attempt}


@shared_task(base=JobTask, name="crash", bind=True)
def crash(self: JobTask, times: Annotated[int, Field(ge=0, le=100)] = 100) -> dict[str, Any]:
    """Kill the own process on the first `times` attempts, as the kernel's out-of-memory killer would."""
    if self.job.attempt <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"status": "survived", "attempt": self.job.attempt}


@shared_task(base=JobTask, name="slow", bind=True)
def slow(self: JobTask, seconds: Annotated[float, Field(ge=0, le=3600)] = 1.0) -> dict[str, Any]:
    """Take `seconds`, showing progress, and stop early when cancelled."""
    began = time.monotonic()
    while (spent := time.monotonic() - began) < seconds:
        if self.job.cancelled():
            raise Abandon("Stopped because it was cancelled.")
        self.job.progress(int(spent), int(seconds) or 1, "waiting")
        time.sleep(min(STEP_SECONDS, seconds - spent))
    return {"status": "done", "seconds": seconds, "attempt": self.job.attempt}
