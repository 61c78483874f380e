"""Tasks that misbehave, and traps for workers; loaded with `celery worker -I tests.chaos.inside`.

A process that only submits imports this module for the tasks; the traps are set where TRAPS says so.
"""

import os
import resource
import signal
import time
from typing import Any

import psycopg
from celery import shared_task
from celery.exceptions import Ignore, Reject
from django.db import connection
from django.db.backends.postgresql.base import DatabaseWrapper

from jobs import execution, stalls
from jobs.models import Job
from jobs.querysets import Held
from jobs.task import JobTask
from jobs.transport import Channel
from tests.waiting import eventually

AFTER_CLAIM, BEFORE_SETTLING, AFTER_SETTLING, WHEN_NEXT_RUNS = "claimed", "run", "settled", "next runs"
BEFORE_COMMIT, AFTER_COMMIT = "before commit", "after commit"
EXIT = 7
STALLS_AFTER, WATCHED_SECONDS = 2, 4.0
EFFECT = "INSERT INTO chaos_effect VALUES (%s, 1) ON CONFLICT (key) DO UPDATE SET times = chaos_effect.times + 1"
MEGABYTE = 1 << 20


class _Unpicklable(Exception):
    def __init__(self, one: Any, two: Any) -> None:
        super().__init__(lambda: (one, two))


class _Speechless(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class _Screaming(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


class _Trick(dict):
    def items(self) -> Any:
        raise RuntimeError("a dict that will not be read")


def _itself() -> list[Any]:
    own: list[Any] = []
    own.append(own)
    return own


ERRORS: dict[str, Any] = {
    "MemoryError": MemoryError,
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "Reject": lambda: Reject("no", requeue=False),
    "Reject and requeue": lambda: Reject("no", requeue=True),
    "Ignore": Ignore,
    "unpicklable": lambda: _Unpicklable(1, 2),
    "NUL": lambda: ValueError("a\0b\ud800c"),
    "without text": _Speechless,
    "whose text interrupts": _Screaming,
    "huge": lambda: ValueError("x" * 5 * MEGABYTE),
    "group": lambda: BaseExceptionGroup("two", [KeyboardInterrupt(), ValueError("a\0b")]),
}
RESULTS: dict[str, Any] = {
    "object": object,
    "NaN": lambda: {"deep": [float("nan")]},
    "NUL": lambda: "a\0b",
    "surrogate": lambda: {"\ud800": 1},
    "five megabytes": lambda: "x" * 5 * MEGABYTE,
    "a huge number": lambda: 10**5000,
    "itself": _itself,
    "a trick": lambda: _Trick(a=1),
    "bytes": lambda: b"x",
}


def _effect(key: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(EFFECT, [key])


@shared_task(base=JobTask, name="chaos_sleep", bind=True)
def sleep(self: JobTask, seconds: float = 0.05) -> int:
    """Take a while without asking anybody anything."""
    time.sleep(seconds)
    return self.job.attempt


@shared_task(base=JobTask, name="chaos_die", bind=True)
def die(self: JobTask, place: str, times: int = 1) -> int:
    """Leave an effect under the job's key; the process dies at `place` on the first `times` attempts."""
    _effect(self.job.idempotency_key)
    return self.job.attempt


@shared_task(base=JobTask, name="chaos_again", bind=True)
def again(self: JobTask, place: str = "", times: int = 1, seconds: float = 0, countdown: float = 0) -> int:
    """Ask for another try on the first attempt; later ones take `seconds`."""
    if self.job.attempt == 1:
        self.retry(countdown=countdown)
    time.sleep(seconds)
    return self.job.attempt


@shared_task(base=JobTask, name="chaos_exit", bind=True)
def leave(self: JobTask, code: int) -> None:
    """End the process without a word."""
    os._exit(code)


@shared_task(base=JobTask, name="chaos_regicide", bind=True)
def kill_parent(self: JobTask) -> None:
    """Take the whole worker down."""
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


@shared_task(base=JobTask, name="chaos_raise")
def raise_it(kind: str) -> None:
    raise ERRORS[kind]()


@shared_task(base=JobTask, name="chaos_return")
def return_it(kind: str) -> Any:
    return RESULTS[kind]()


@shared_task(base=JobTask, name="chaos_eat", bind=True)
def eat(self: JobTask) -> int:
    """Want more memory than there is, on the first attempt."""
    if self.job.attempt > 1:
        return self.job.attempt
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2048 * MEGABYTE, before[1]))
    try:
        return len(bytearray(4096 * MEGABYTE))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@shared_task(base=JobTask, name="chaos_hang", bind=True)
def hang(self: JobTask, frozen: bool = False, stubborn: bool = False) -> int:
    """Never end on the first attempt: asleep, frozen, or refusing to be told."""
    if self.job.attempt > 1:
        return self.job.attempt
    if stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if frozen:
        os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(300)
    return 0


@shared_task(base=JobTask, name="chaos_dawdle")
def dawdle(seconds: float) -> str:
    """Longer than the soft limit allows, or not."""
    time.sleep(seconds)
    return "done"


@shared_task(base=JobTask, name="chaos_deaf", bind=True)
def deaf(self: JobTask, seconds: float) -> int:
    """Swallow the wish of the system to end this process, and finish."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            time.sleep(0.05)
        except SystemExit:
            break
    return self.job.attempt


@shared_task(base=JobTask, name="chaos_stubborn", bind=True)
def stubborn(self: JobTask, seconds: float) -> int:
    """Make something else of the wish to end."""
    try:
        time.sleep(seconds)
    except SystemExit:
        raise RuntimeError("not now") from None
    return self.job.attempt


@shared_task(base=JobTask, name="chaos_atomic", bind=True)
def keep(self: JobTask, place: str = "", times: int = 1, fails: bool = False) -> int:
    """Leave an effect in the settling transaction."""
    _effect(self.job.idempotency_key)
    if fails and self.job.attempt == 1:
        raise ConnectionError("after the effect")
    return self.job.attempt


@shared_task(base=JobTask, name="chaos_new_task")
def known_to_new_workers_only() -> str:
    return "known"


def _claim_and_die(job_id: Any, *, until: float) -> list[Held]:
    held = _claim(job_id, until=until)
    for job in held:
        _cut_commit[:] = [job.payload["place"]] if job.task == keep.name and _place(job) else []
        _die_at(AFTER_CLAIM, job)
    return held


def _settle_and_die(job: Held, outcome: Any, *, until: float | None = None) -> Any:
    _die_at(BEFORE_SETTLING, job)
    settled = _settle(job, outcome, until=until)
    _die_at(AFTER_SETTLING, job)
    if _place(job) == WHEN_NEXT_RUNS:
        next_one = Job.objects.filter(pk=job.id, attempt=job.attempt + 1, state="STARTED")
        eventually(next_one.exists, within=30, what="the next attempt to run")
        os._exit(EXIT)
    return settled


def _die_at(place: str, job: Held) -> None:
    if _place(job) == place:
        os._exit(EXIT)


def _place(job: Held) -> str:
    """Where this attempt is meant to meet its fate."""
    return job.payload.get("place", "") if job.attempt <= job.payload.get("times", 1) else ""


def _commit_and_be_cut_off(self: Any) -> None:
    """COMMIT, with the connection cut before or after the server has heard it."""
    place = _cut_commit.pop() if _cut_commit else ""
    if place == BEFORE_COMMIT:
        with psycopg.connect(self.connection.info.dsn, password=self.connection.info.password) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [self.connection.info.backend_pid])
    _commit(self)
    if place == AFTER_COMMIT:
        self.connection.close()
        with self.wrap_database_errors:
            self.connection.execute("SELECT 1")


def _ask_until_stalled(self: Any, *args: Any, **kwargs: Any) -> Any:
    """After so many tickets this process asks Redis for nothing any more, as if its consumer were lost."""
    return None if len(_taken) >= STALLS_AFTER else _ask(self, *args, **kwargs)


def _take_and_count(self: Any, **options: Any) -> Any:
    _taken.append(_take(self, **options))
    return _taken[-1]


_cut_commit: list[str] = []
_taken: list[Any] = []
_claim, _settle, _commit = execution.claim, execution.settle, DatabaseWrapper._commit
_ask, _take = Channel._brpop_start, Channel._brpop_read
match os.environ.get("TRAPS"):
    case "deaths":
        execution.claim, execution.settle = _claim_and_die, _settle_and_die  # type: ignore[assignment]
        DatabaseWrapper._commit = _commit_and_be_cut_off
    case "stall":
        stalls.CONNECTED_SECONDS = stalls.SILENT_SECONDS = WATCHED_SECONDS
        Channel._brpop_start, Channel._brpop_read = _ask_until_stalled, _take_and_count
