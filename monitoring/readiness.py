"""Can this installation work? Named parts, each asked in a thread of its own and given up on after its time-out."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock

import redis
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import QuerySet
from django.db.models.functions import Now

from jobs.models import Worker
from jobs.tickets import reading_client

# Without these nothing can be answered; without the others jobs are taken and wait.
ESSENTIAL = ("database", "migrations")


@dataclass(frozen=True)
class Part:
    name: str
    ok: bool
    seconds: float
    text: str


@dataclass(frozen=True)
class Readiness:
    parts: list[Part]

    @property
    def can_serve(self) -> bool:
        """Whether this process should get requests: jobs submitted now are kept, if not yet run."""
        return all(part.ok for part in self.parts if part.name in ESSENTIAL)

    @property
    def is_complete(self) -> bool:
        return all(part.ok for part in self.parts)

    @property
    def status(self) -> str:
        return "ready" if self.is_complete else "degraded" if self.can_serve else "unready"


class Unready(Exception):
    """A part answers, and the answer is no."""


def readiness() -> Readiness:
    """Ask all parts at once; as slow as the slowest, and never slower than the longest time-out."""
    began = time.monotonic()
    asked = {name: _asked(name) for name in PARTS}
    return Readiness([_answer(name, future, began) for name, future in asked.items()])


def database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_is_in_recovery()")
        [is_standby] = cursor.fetchone()
    if is_standby:
        raise Unready("PostgreSQL is a standby: it takes no writes")
    return "answers"


def migrations() -> str:
    executor = MigrationExecutor(connection)
    waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if waiting:
        raise Unready(f"{len(waiting)} migrations are not applied")
    return "all applied"


def broker() -> str:
    reading_client().ping()
    return "answers"


def workers() -> str:
    numbers = serving()
    if missing := [queue for queue, number in numbers.items() if not number]:
        raise Unready(f"no worker on {', '.join(missing)}")
    return ", ".join(f"{queue} {number}" for queue, number in numbers.items())


def serving() -> dict[str, int]:
    """How many workers are up, per queue."""
    numbers = dict.fromkeys(settings.JOB_QUEUES, 0)
    for queues in _alive(Worker.Kind.WORKER).values_list("queues", flat=True):
        numbers |= {queue: numbers[queue] + 1 for queue in queues if queue in numbers}
    return numbers


def dispatcher() -> str:
    return _count_alive(Worker.Kind.DISPATCHER)


def beat() -> str:
    return _count_alive(Worker.Kind.BEAT)


# Seconds each part may take.
PARTS: dict[str, tuple[Callable[[], str], float]] = {
    "database": (database, 2.0),
    "migrations": (migrations, 3.0),
    "broker": (broker, 2.0),
    "workers": (workers, 2.0),
    "dispatcher": (dispatcher, 2.0),
    "beat": (beat, 2.0),
}
_threads = ThreadPoolExecutor(len(PARTS), thread_name_prefix="readiness")
_in_flight: dict[str, Future[tuple[bool, str]]] = {}
_lock = Lock()


def _asked(name: str) -> Future[tuple[bool, str]]:
    """The question now in flight, or a new one: a part that hangs holds one thread, however many ask."""
    with _lock:
        future = _in_flight.get(name)
        if future is None or future.done():
            future = _in_flight[name] = _threads.submit(_ask, PARTS[name][0])
        return future


def _ask(question: Callable[[], str]) -> tuple[bool, str]:
    try:
        return True, question()
    except Unready as why:
        return False, str(why)
    except (DatabaseError, InterfaceError):
        return False, "PostgreSQL does not answer"
    except redis.RedisError:
        return False, "Redis does not answer"
    finally:
        connection.close()


def _answer(name: str, future: Future[tuple[bool, str]], began: float) -> Part:
    limit = PARTS[name][1]
    try:
        ok, text = future.result(timeout=max(0.0, began + limit - time.monotonic()))
    except TimeoutError:
        ok, text = False, f"no answer within {limit:g} s"
    return Part(name, ok, round(time.monotonic() - began, 3), text)


def _alive(kind: Worker.Kind) -> QuerySet[Worker]:
    lease = timedelta(seconds=settings.LEASE_SECONDS)
    return Worker.objects.filter(kind=kind, state=Worker.State.UP, heartbeat_at__gt=Now() - lease)


def _count_alive(kind: Worker.Kind) -> str:
    if number := _alive(kind).count():
        return f"{number} alive"
    raise Unready(f"no {kind.label.lower()} is alive")
