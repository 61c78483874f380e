"""Worker rows: one per process that matters, kept alive by a thread with its own connection.

Not by Celery's heartbeat_sent, which stops while Redis is down and would make every live worker look dead.
"""

import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

import psycopg
from django.conf import settings
from django.db import Error as DjangoError
from django.db import connection

from jobs import connections, processes
from jobs.models import Worker
from jobs.processes import me

logger = logging.getLogger("jobs.liveness")
EXIT_FENCED = 70

_ENLIST = """
INSERT INTO jobs_worker (id, kind, name, host, boot_id, pid_ns, pid, pid_started, queues, concurrency,
                         started_at, heartbeat_at, state)
VALUES (%(id)s, %(kind)s, %(name)s, %(host)s, %(boot_id)s, %(pid_ns)s, %(pid)s, %(ticks)s, %(queues)s, %(concurrency)s,
        clock_timestamp(), clock_timestamp(), 'UP')
ON CONFLICT (id) DO NOTHING
"""
_BEAT = """
UPDATE jobs_worker
   SET heartbeat_at = clock_timestamp(), concurrency = %(concurrency)s,
       state = CASE WHEN %(stopping)s THEN 'STOPPING' ELSE state END,
       stop_requested_at = CASE WHEN %(stopping)s THEN coalesce(stop_requested_at, clock_timestamp())
                                ELSE stop_requested_at END
 WHERE id = %(id)s AND state <> 'DEAD'
RETURNING stop_requested_at
"""
_LEAVE = "UPDATE jobs_worker SET state = 'DEAD', heartbeat_at = clock_timestamp() WHERE id = %(id)s"


class Heartbeat:
    """Beats for this process, and does what must be done on every beat; stops with `leave`."""

    def __init__(self, kind: Worker.Kind, name: str, *, queues: list[str], concurrency: int = 0) -> None:
        self.concurrency = concurrency
        self.stopping = False
        self.duties: list[Callable[[], None]] = []
        self.last_duties: list[Callable[[], None]] = []
        self._row = _description(kind, name, queues)
        # A queue, because its put may interrupt itself: a signal handler wakes us too, and would hang on an Event.
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._leaving = False
        self._thread = threading.Thread(target=self._beat_until_left, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Enlist, waiting for a database that is not up yet, then beat in the background."""
        connections.patiently(lambda _: self._enlist(), until=float("inf"))
        self._thread.start()

    def wake(self) -> None:
        """Beat now: something happened that should not wait."""
        self._wakes.put(None)

    def stop_claiming(self) -> None:
        """The row says STOPPING from the next beat on, so claims are refused; running jobs go on. Signal-safe."""
        self.stopping = True
        self.wake()

    def leave(self) -> None:
        """Do the last duties and mark the row DEAD; at most one lease long."""
        self._leaving = True
        self.wake()
        self._thread.join(timeout=settings.LEASE_SECONDS)

    def _enlist(self) -> None:
        connections.own().rows(_ENLIST, self._row | {"concurrency": self.concurrency})

    def _beat_until_left(self) -> None:
        while not self._leaving:
            self._once(self.duties)
            self._wait()
        self._once(self.last_duties)
        self._once([self._sign_off])
        connections.close_own()
        connection.close()

    def _wait(self) -> None:
        """Until the next beat is due, or something wakes us; many wakes are one."""
        with suppress(Empty):
            self._wakes.get(timeout=settings.HEARTBEAT_SECONDS)
            while True:
                self._wakes.get_nowait()

    def _once(self, duties: list[Callable[[], None]]) -> None:
        """One beat. An outage is waited out: it must end neither this thread nor the process."""
        for duty in [self.beat, *duties]:
            try:
                duty()
            except Exception as error:  # a fault in one duty must cost neither the heartbeat nor the other duties
                connection.close_if_unusable_or_obsolete()
                if isinstance(error, (psycopg.Error, DjangoError)) and connections.is_outage(error):
                    logger.warning("beat missed", extra={"reason": str(error).strip()})
                    return
                logger.exception("a duty of the heartbeat failed")

    def _sign_off(self) -> None:
        connections.own().rows(_LEAVE, {"id": me.worker})

    def beat(self) -> None:
        """Say that this process is alive; ends it when it was declared dead. Raises psycopg.Error in an outage."""
        values = {"id": me.worker, "stopping": self.stopping, "concurrency": self.concurrency}
        if not connections.own().rows(_BEAT, values):
            logger.critical("this process was declared dead; its jobs belong to others now, so it ends at once")
            os._exit(EXIT_FENCED)


def _description(kind: Worker.Kind, name: str, queues: list[str]) -> dict[str, Any]:
    process = processes.this_process()
    return {
        "id": me.worker,
        "kind": kind.value,
        "name": name,
        "host": processes.host(),
        "boot_id": processes.boot_id(),
        "pid_ns": processes.pid_namespace(),
        "pid": process.pid,
        "ticks": process.ticks,
        "queues": queues,
    }
