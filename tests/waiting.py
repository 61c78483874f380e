"""Waiting for conditions, never for time."""

import time
from collections.abc import Callable
from typing import TypeVar

from jobs.models import Job

T = TypeVar("T")


def eventually(condition: Callable[[], T], *, within: float, what: str = "") -> T:
    """The first true value of `condition`; fails after `within` seconds, saying what was waited for."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within} s in vain for {what or condition}; last value {value!r}")
        time.sleep(0.02)


def settled(job: Job, *, within: float = 60) -> Job:
    """The job once it is final."""
    return _once(job, lambda: job.is_final, within=within, what="finish")


def started(job: Job, *, attempt: int = 1, within: float = 30) -> Job:
    """The job once that attempt runs."""
    return _once(job, lambda: job.state == "STARTED" and job.attempt == attempt, within=within, what="start")


def _once(job: Job, holds: Callable[[], bool], *, within: float, what: str) -> Job:
    def now() -> bool:
        job.refresh_from_db()
        return holds()

    eventually(now, within=within, what=f"{job} to {what}")
    return job
