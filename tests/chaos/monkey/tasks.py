"""Jobs for the monkey: each writes down in the ledger what it did. Loaded with `celery worker -I`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import shared_task
from celery.exceptions import Ignore
from django.db import connection

from jobs.effects import RunningJob
from jobs.task import JobTask
from tests.chaos.monkey import ledger

NAP, AFTER_EFFECT, LONG = 0.2, 1.0, 2.5


class RecordedTask(JobTask):
    """A JobTask that also tells of tickets which led to nothing, because another had come first."""

    abstract = True
    began = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.began = False
        try:
            return super().__call__(*args, **kwargs)
        except Ignore:
            if not self.began:
                ledger.record(ledger.DROPPED, self.request.id)
            raise


@contextmanager
def body(task: Any) -> Iterator[RunningJob]:
    task.began = True
    job = task.job
    about = {"key": job.idempotency_key, "attempt": job.attempt}
    ledger.record(ledger.START, job.id, **about)
    try:
        yield job
    except Exception:
        ledger.record(ledger.RAISED, job.id, **about)
        raise
    ledger.record(ledger.END, job.id, **about)


@shared_task(base=RecordedTask, name="monkey_short", bind=True)
def monkey_short(self: RecordedTask) -> None:
    with body(self):
        pass


@shared_task(base=RecordedTask, name="monkey_nap", bind=True)
def monkey_nap(self: RecordedTask, seconds: float = NAP) -> None:
    with body(self):
        time.sleep(seconds)


@shared_task(base=RecordedTask, name="monkey_long", bind=True)
def monkey_long(self: RecordedTask, seconds: float = LONG) -> None:
    with body(self):
        time.sleep(seconds)


@shared_task(base=RecordedTask, name="monkey_retrying", bind=True)
def monkey_retrying(self: RecordedTask) -> None:
    """Fail twice, then succeed."""
    with body(self) as job:
        if job.retries < 2:
            raise ConnectionError("not yet")


@shared_task(base=RecordedTask, name="monkey_once", bind=True)
def monkey_once(self: RecordedTask) -> None:
    """Have an effect outside, then go on for a while: an attempt after a death must not repeat the effect."""
    with body(self) as job:
        job.once("charge", lambda: ledger.record(ledger.EFFECT, job.id, key=job.idempotency_key, attempt=job.attempt))
        time.sleep(AFTER_EFFECT)


@shared_task(base=RecordedTask, name="monkey_atomic", bind=True)
def monkey_atomic(self: RecordedTask) -> None:
    """Write a row in the job's own transaction (its policy says atomic)."""
    with body(self) as job:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO chaos_atomic (job) VALUES (%s)", [str(job.id)])
        time.sleep(NAP)


@shared_task(base=RecordedTask, name="monkey_doomed", bind=True)
def monkey_doomed(self: RecordedTask) -> None:
    with body(self):
        raise RuntimeError("it never works")
