"""Lost tickets: proved by reading the queue, then issued again, exactly those.

A ticket is lost when its row is due and marked as dispatched but its id is not in the queue's list, twice,
one grace apart. Counting alone would do as a trigger, not as a proof: under steady load tickets are always
in somebody's hands. Unacknowledged messages are never counted, since with late ack they belong to STARTED rows.
"""

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import redis
from django.conf import settings
from django.db import connection

from jobs import tickets
from jobs.dispatch import ISSUE_LOCK, TICKET_QUEUE, only_one, unmark, unpaused_queues
from jobs.tickets import Ticket

logger = logging.getLogger("jobs.dispatch")
UNPROMPTED_SECONDS = 60.0
PAGE = 1000
# Counting may take a tenth of the time, however deep the queues are.
REST = 9

# Due, and a ticket is out.
_OUT = """job.finished_at IS NULL AND job.dispatched_at IS NOT NULL AND job.state IN ('PENDING', 'RETRY')
   AND job.run_at <= clock_timestamp()"""
_DUE_AND_DISPATCHED = f"""
SELECT job.id, job.dispatched_at FROM jobs_job AS job WHERE {_OUT} AND {TICKET_QUEUE} = %(queue)s
"""
_COUNT = f"""
SELECT {TICKET_QUEUE}, count(*), min(dispatched_at) < clock_timestamp() - make_interval(secs => %(age)s)
  FROM jobs_job AS job WHERE {_OUT} GROUP BY 1
"""
# Only rows nobody has touched since they were suspected.
_REISSUE = f"""
WITH lost AS (
  SELECT * FROM unnest(%(ids)s::uuid[], %(issued)s::timestamptz[]) AS l(id, issued)
), again AS (
  UPDATE jobs_job AS job SET dispatched_at = clock_timestamp(), dispatch_no = job.dispatch_no + 1
    FROM lost
   WHERE job.id = lost.id AND job.dispatched_at = lost.issued AND job.state IN ('PENDING', 'RETRY')
  RETURNING job.id, job.task, {TICKET_QUEUE} AS queue
), told AS (
  INSERT INTO jobs_event (at, job_id, verb, actor, reason, details)
  SELECT clock_timestamp(), id, 'ticket republished', 'dispatcher', 'its ticket was lost', '{{}}' FROM again
)
SELECT id, task, queue FROM again
"""

Absent = dict[UUID, datetime]


@dataclass
class _Suspicion:
    """Ids seen to be absent from one queue, and since when (time.monotonic)."""

    absent: Absent
    since: float
    prompted: bool


@dataclass
class LossDetector:
    """What one dispatcher has noted between its sweeps."""

    suspicions: dict[str, _Suspicion] = field(default_factory=dict)
    read_at: dict[str, float] = field(default_factory=dict)
    rests_until: float = 0.0

    def sweep(self) -> int:
        """Look at every queue that is not paused; how many tickets were issued again."""
        if time.monotonic() < self.rests_until:
            return 0
        queues = unpaused_queues()
        for paused in self.suspicions.keys() - set(queues):
            del self.suspicions[paused]
        counted = self._count()
        try:
            return sum(self._look_at(queue, *counted.get(queue, (0, False))) for queue in queues)
        except redis.RedisError as error:
            self.suspicions.clear()
            logger.warning("queues not readable", extra={"reason": str(error)})
            return 0

    def patience(self) -> float:
        """Seconds until the next suspicion is ripe; infinite without one, and for those an error has kept waiting."""
        now = time.monotonic()
        ripe = (each.since + settings.TICKET_GRACE_SECONDS - now for each in self.suspicions.values())
        return min((left for left in ripe if left > 0), default=float("inf"))

    def _count(self) -> dict[str, tuple[int, bool]]:
        """By queue: due rows with a ticket out, and whether the oldest has been out for a minute.

        Every unfinished row is read, and under an old snapshot every row finished since: hence the rest.
        """
        began = time.monotonic()
        with connection.cursor() as cursor:
            cursor.execute(_COUNT, {"age": UNPROMPTED_SECONDS})
            counted = {queue: (due, bool(is_old)) for queue, due, is_old in cursor.fetchall()}
        now = time.monotonic()
        self.rests_until = now + REST * (now - began) - settings.DISPATCH_SECONDS
        return counted

    def _look_at(self, queue: str, due: int, is_old: bool) -> int:
        missing = due > _client().llen(queue)
        suspicion = self.suspicions.get(queue)
        if suspicion is None:
            if due and (missing or (is_old and self._is_time_for_a_look(queue))):
                self._note(queue, prompted=missing)
            return 0
        if suspicion.prompted and not missing:
            del self.suspicions[queue]
            return 0
        if time.monotonic() - suspicion.since < settings.TICKET_GRACE_SECONDS:
            return 0
        del self.suspicions[queue]
        return _reissue(_still_absent(suspicion.absent, _absent(queue)))

    def _is_time_for_a_look(self, queue: str) -> bool:
        return time.monotonic() - self.read_at.get(queue, float("-inf")) >= UNPROMPTED_SECONDS

    def _note(self, queue: str, *, prompted: bool) -> None:
        self.read_at[queue] = time.monotonic()
        absent = _absent(queue)
        if absent:
            self.suspicions[queue] = _Suspicion(absent, time.monotonic(), prompted)


def _absent(queue: str) -> Absent:
    """Due rows with a ticket out whose id is not in the queue's list."""
    present = set(_listed(queue))
    with connection.cursor() as cursor:
        cursor.execute(_DUE_AND_DISPATCHED, {"queue": queue})
        return {job: issued for job, issued in cursor.fetchall() if str(job) not in present}


def _still_absent(before: Absent, now: Absent) -> Absent:
    return {job: issued for job, issued in before.items() if now.get(job) == issued}


def _listed(queue: str) -> Iterator[str]:
    """The job ids in a queue's list, read from its head: pushes there repeat ids, pops at the tail skip none."""
    client, start = _client(), 0
    while page := client.lrange(queue, start, start + PAGE - 1):
        for raw in page:
            try:
                yield json.loads(raw)["headers"]["id"]
            except (ValueError, KeyError, TypeError):
                continue
        start += len(page)


def _reissue(lost: Absent) -> int:
    if not lost:
        return 0
    with only_one(ISSUE_LOCK) as alone, connection.cursor() as cursor:
        if not alone:
            return 0
        cursor.execute(_REISSUE, {"ids": list(lost), "issued": list(lost.values())})
        again = [Ticket(*row) for row in cursor.fetchall()]
    if not tickets.publish(again):
        unmark([ticket.job for ticket in again])
        return 0
    logger.warning("lost tickets issued again", extra={"tickets": len(again)})
    return len(again)


def _client() -> redis.Redis:
    return tickets.reading_client()
