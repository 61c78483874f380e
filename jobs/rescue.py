"""Taking jobs back from attempts that ended without settling: dead children, dead workers, clean stops."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any
from uuid import UUID

from django.conf import settings

from jobs import connections, processes, querysets
from jobs.connections import own
from jobs.diagnosis import plain
from jobs.outcomes import Cancelled, Died, Outcome, Released, TimedOut
from jobs.processes import me
from jobs.querysets import Held
from jobs.settlement import settle

logger = logging.getLogger("jobs.rescue")


class Cause(Enum):
    DEATH = "death"
    TIME_LIMIT = "time limit"
    TERMINATED = "terminated"


@dataclass(frozen=True)
class Ended:
    """A child that ended with a job in its hands, as its parent saw it."""

    job: UUID
    pid: int | None
    cause: Cause
    text: str
    signal: int | None = None
    exit_code: int | None = None
    was_batch: bool = False


_TICKET_GONE = """
UPDATE jobs_job SET dispatched_at = NULL
 WHERE id = %(id)s AND state IN ('PENDING', 'RETRY') AND dispatched_at IS NOT NULL
"""
_BURY_WORKERS = """
UPDATE jobs_worker SET state = 'DEAD'
 WHERE state <> 'DEAD' AND id <> %(me)s AND (
   (%(may_judge)s AND heartbeat_at < %(seen)s - make_interval(secs => %(lease)s))
   OR (%(may_judge)s AND host = %(host)s AND boot_id <> %(boot)s AND boot_id <> ''
       AND heartbeat_at < %(seen)s - make_interval(secs => %(beat)s * 2))
   OR id = ANY(%(gone)s))
RETURNING id, name, kind
"""
_NEIGHBOURS = """
SELECT id, pid, pid_started FROM jobs_worker
 WHERE state <> 'DEAD' AND id <> %(me)s AND host = %(host)s AND boot_id = %(boot)s AND pid_ns = %(ns)s
"""
_STOPPED = "SELECT id FROM jobs_worker WHERE id = ANY(%(ids)s) AND stop_requested_at IS NOT NULL"
# A claim takes no lock on its worker's row, so one may commit just after the row went DEAD.
_LATELY_DEAD = """
SELECT id FROM jobs_worker
 WHERE state = 'DEAD' AND kind = 'worker' AND heartbeat_at > clock_timestamp() - make_interval(secs => %(lease)s * 4)
"""


class View:
    """How long this process has seen the database without a break: only then may it judge by silence.

    An outage or a stall of PostgreSQL, or of this process, silences every worker alike and must kill none.
    """

    def __init__(self) -> None:
        self._last = self._unbroken_since = time.monotonic()

    def look(self) -> None:
        """The database has just answered, or a sweep just began."""
        now = time.monotonic()
        if now - self._last > settings.HEARTBEAT_SECONDS:
            self._unbroken_since = now
        self._last = now

    def broke(self) -> None:
        self._unbroken_since = time.monotonic()

    def is_unbroken(self) -> bool:
        return time.monotonic() - self._unbroken_since >= settings.LEASE_SECONDS


def record_end(ended: Ended, *, stopping: bool) -> None:
    """Settle the attempt whose child ended, if it is still that child's; else only its ticket is gone."""
    held = _held_among([ended.job]).get(ended.job)
    if held is None or held.child_pid != ended.pid:
        own().rows(_TICKET_GONE, {"id": ended.job})
        return
    settle(held, outcome_of_end(ended, held, stopping))


def record_death(job: Held, code: str, why: str) -> None:
    """An attempt that ended without a settlement, and without anybody having reported it."""
    settle(job, Died(plain(code, why)))


def record_release(job: Held, why: str) -> None:
    settle(job, Cancelled(plain("CANCELLED", why)) if job.cancel_requested_at else Released(plain("RELEASED", why)))


def held_by_me(ids: Iterable[UUID]) -> dict[UUID, Held]:
    """Which of these jobs are STARTED in this worker's name."""
    return _held_among(list(ids))


def release_all_of_mine(why: str) -> None:
    """The last thing a stopping worker does: give back what it did not finish."""
    for row in own().rows(querysets.HELD_BY, {"workers": [me.worker]}):
        record_release(Held(*row), why)


def sweep(view: View) -> int:
    """Declare silent workers dead and take their jobs back; how many jobs."""
    # Silence is counted up to here: from now on the database may stall, and silence the workers, as it executes us.
    [[seen]] = own().rows("SELECT clock_timestamp()", {})
    view.look()
    names = {
        "me": me.worker,
        "seen": seen,
        "may_judge": view.is_unbroken(),
        "lease": settings.LEASE_SECONDS,
        "beat": settings.HEARTBEAT_SECONDS,
        "host": processes.host(),
        "boot": processes.boot_id(),
        "gone": _gone_neighbours(),
    }
    dead = [row[0] for row in own().rows(_LATELY_DEAD, {"lease": settings.LEASE_SECONDS})]
    for worker, name, kind in own().rows(_BURY_WORKERS, names):
        logger.warning("worker declared dead", extra={"worker": name, "kind": kind, "worker_id": str(worker)})
        # However long it has been silent: without a dispatcher nobody could tell until now.
        dead.append(worker)
    rows = own().rows(querysets.HELD_BY, {"workers": dead}) if dead else []
    return _take_back([Held(*row) for row in rows])


def sweep_strays() -> int:
    """Jobs held by no living worker at all, however long ago; reads every unfinished row, so run it seldom."""
    return _take_back([Held(*row) for row in own().rows(querysets.HELD_BY_NOBODY, {})])


def _take_back(jobs: list[Held]) -> int:
    """A worker that was stopping gives its jobs back; under any other they died."""
    stopped = {row[0] for row in own().rows(_STOPPED, {"ids": [job.worker_id for job in jobs]})} if jobs else set()
    for job in jobs:
        if job.worker_id in stopped or job.cancel_requested_at:
            record_release(job, "Its worker was stopped before it finished.")
        else:
            settle(job, Died(plain("WORKER_LOST", "Its worker is gone.")))
    return len(jobs)


def _gone_neighbours() -> list[UUID]:
    """Workers of this very machine and pid namespace whose process does not exist any more."""
    names = {
        "me": me.worker,
        "host": processes.host(),
        "boot": processes.boot_id(),
        "ns": processes.pid_namespace(),
    }
    rows = own().rows(_NEIGHBOURS, names) if names["boot"] and names["ns"] else []
    return [worker for worker, pid, ticks in rows if not processes.is_child_alive(pid, ticks)]


def _held_among(ids: list[UUID]) -> dict[UUID, Held]:
    rows = connections.own().rows(querysets.HELD_AMONG, {"ids": ids, "worker": me.worker}) if ids else []
    return {job.id: job for job in (Held(*row) for row in rows)}


def outcome_of_end(ended: Ended, held: Held, stopping: bool) -> Outcome:
    """What the end of its process means for a job."""
    details: dict[str, Any] = {"signal": ended.signal, "exit_code": ended.exit_code}
    match ended.cause:
        case Cause.TIME_LIMIT:
            return TimedOut(plain("TIME_LIMIT", ended.text))
        case Cause.TERMINATED if held.cancel_requested_at:
            return Cancelled(plain("CANCELLED", "Ended because it was cancelled."))
        case Cause.TERMINATED:
            return Released(plain("RELEASED", "Its process was ended because of another job or a stop."))
        case Cause.DEATH if stopping:
            return Released(plain("RELEASED", f"Its worker was being stopped. {ended.text}"))
        case Cause.DEATH:
            return Died(plain("WORKER_LOST", ended.text), **details)
