"""The same jobs as plain Celery tasks on Redis, configured as the usual guides say, and kinder than most.

Late ack, reject on worker lost, prefetch 1, JSON, retries with back-off, results in Redis, Redis with an
append-only file. The visibility timeout is 30 s and its sweep runs every second, so that what Redis can give
back is given back within the run; with Celery's default it would take an hour.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from celery import Celery

from tests.chaos.monkey import ledger

BROKER, DATABASE = "CHAOS_BROKER", "CHAOS_DATABASE"
NAP, AFTER_EFFECT, LONG = 0.2, 1.0, 2.5
PATIENT = {
    "bind": True,
    "autoretry_for": (Exception,),
    "retry_backoff": True,
    "retry_backoff_max": 3,
    "retry_jitter": True,
    "max_retries": 1000,
}

app = Celery("plain", broker=os.environ.get(BROKER), backend=os.environ.get(BROKER))
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={
        "visibility_timeout": 30,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
    },
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    accept_content=["json"],
    task_time_limit=300,
)


@contextmanager
def body(task: Any, key: str) -> Iterator[str]:
    about = {"key": key, "attempt": task.request.retries + 1}
    ledger.record(ledger.START, task.request.id, **about)
    try:
        yield task.request.id
    except Exception:
        ledger.record(ledger.RAISED, task.request.id, **about)
        raise
    ledger.record(ledger.END, task.request.id, **about)


@app.task(name="plain_short", **PATIENT)
def plain_short(self: Any, key: str) -> None:
    with body(self, key):
        pass


@app.task(name="plain_nap", **PATIENT)
def plain_nap(self: Any, key: str) -> None:
    with body(self, key):
        time.sleep(NAP)


@app.task(name="plain_long", **PATIENT)
def plain_long(self: Any, key: str) -> None:
    with body(self, key):
        time.sleep(LONG)


@app.task(name="plain_retrying", **PATIENT)
def plain_retrying(self: Any, key: str) -> None:
    with body(self, key):
        if self.request.retries < 2:
            raise ConnectionError("not yet")


@app.task(name="plain_once", **PATIENT)
def plain_once(self: Any, key: str) -> None:
    """Celery has nothing that remembers an effect: it happens on every run."""
    with body(self, key) as job:
        ledger.record(ledger.EFFECT, job, key=key, attempt=self.request.retries + 1)
        time.sleep(AFTER_EFFECT)


@app.task(name="plain_atomic", **PATIENT)
def plain_atomic(self: Any, key: str) -> None:
    with body(self, key) as job, psycopg.connect(os.environ[DATABASE], connect_timeout=5) as connection:
        connection.execute("INSERT INTO chaos_atomic (job) VALUES (%s)", [job])
        time.sleep(NAP)


@app.task(name="plain_doomed", **(PATIENT | {"max_retries": 1}))
def plain_doomed(self: Any, key: str) -> None:
    """Its last failure is its end."""
    ledger.record(ledger.START, self.request.id, key=key, attempt=self.request.retries + 1)
    if self.request.retries >= 1:
        ledger.record(ledger.END, self.request.id, key=key, attempt=self.request.retries + 1)
    raise RuntimeError("it never works")
