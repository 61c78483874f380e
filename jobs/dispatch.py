"""The dispatcher's sweeps: issue the tickets nobody holds, revoke what came too late, read the queues.

Any number of dispatchers may run. Each sweep takes a transaction-scoped advisory lock, so two never do
the same work at once and nobody is leader for longer than a sweep (pgbouncer in transaction mode is fine).
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now

from jobs import tickets
from jobs.models import Event, Job
from jobs.noting import note
from jobs.policies import batch_tasks, policy, tables
from jobs.states import WAITING, State
from jobs.tickets import Ticket

logger = logging.getLogger("jobs.dispatch")
BATCH = 1000
ISSUE_LOCK, EXPIRE_LOCK, SAMPLE_LOCK, RESCUE_LOCK = 7001, 7002, 7003, 7004

# A job whose next death would be its last gets its ticket on the queue `solo`.
TICKET_QUEUE = "CASE WHEN job.deaths + 1 >= job.max_deaths THEN 'solo' ELSE job.queue END"
_ISSUE = f"""
UPDATE jobs_job AS job
   SET dispatched_at = clock_timestamp(), dispatch_no = dispatch_no + 1
 WHERE id IN (
   SELECT id FROM jobs_job
    WHERE finished_at IS NULL AND dispatched_at IS NULL AND state IN ('PENDING', 'RETRY')
      AND queue = %(queue)s AND run_at <= clock_timestamp() AND (task = ANY(%(tasks)s)) = %(only)s
      AND (expires_at IS NULL OR expires_at > clock_timestamp()) AND cancel_requested_at IS NULL
    ORDER BY run_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
RETURNING job.id, job.task, {TICKET_QUEUE}
"""
_MAY_START = """
INSERT INTO jobs_pace AS pace (task, next_at) VALUES (%(task)s, clock_timestamp())
ON CONFLICT (task) DO UPDATE SET next_at = pace.next_at
RETURNING greatest(0, 1 + floor(extract(epoch FROM clock_timestamp()
            - greatest(next_at, clock_timestamp() - make_interval(secs => %(burst)s))) / %(interval)s))::int
"""
_STARTED = """
UPDATE jobs_pace SET next_at = greatest(next_at, clock_timestamp() - make_interval(secs => %(burst)s))
                             + make_interval(secs => %(seconds)s)
 WHERE task = %(task)s
"""
_UNPAUSED = """
SELECT name FROM unnest(%(names)s::text[]) AS name
 WHERE name NOT IN (SELECT q.name FROM jobs_queue AS q WHERE q.paused_at IS NOT NULL)
"""
_SAMPLE = """
INSERT INTO jobs_queue (name, paused_by, pause_reason, depth, oldest_due_at, running, sampled_at)
SELECT wanted.name, '', '', coalesce(depth, 0), oldest, coalesce(running, 0), clock_timestamp()
  FROM unnest(%(names)s::text[]) AS wanted(name)
  LEFT JOIN (
    SELECT queue,
           count(*) FILTER (WHERE state IN ('PENDING', 'RETRY') AND run_at <= clock_timestamp()) AS depth,
           min(run_at) FILTER (WHERE state IN ('PENDING', 'RETRY') AND run_at <= clock_timestamp()) AS oldest,
           count(*) FILTER (WHERE state = 'STARTED') AS running
      FROM jobs_job WHERE finished_at IS NULL GROUP BY queue) AS seen ON seen.queue = wanted.name
ON CONFLICT (name) DO UPDATE
  SET depth = EXCLUDED.depth, oldest_due_at = EXCLUDED.oldest_due_at, running = EXCLUDED.running,
      sampled_at = EXCLUDED.sampled_at
"""


def issue() -> int:
    """Issue tickets for due jobs that have none out: retries, scheduled jobs, failed publishes; how many."""
    if not tickets.can_publish():
        return 0
    return sum(_issue(queue) for queue in unpaused_queues())


def issue_paced() -> int:
    """Issue tickets for jobs of tasks with a rate, as many as may start by now over all workers; how many."""
    if not tickets.can_publish():
        return 0
    queues = unpaused_queues()
    return sum(_issue_paced(task, queues) for task in _paced_tasks())


def expire() -> int:
    """Revoke waiting jobs whose time has run out, without ever issuing them a ticket; how many."""
    total = 0
    while expired := _expire():
        total += expired
    return total


def sample() -> None:
    """Note depth, oldest due job and running jobs of every queue, for pages, metrics and autoscaling."""
    with only_one(SAMPLE_LOCK) as alone, connection.cursor() as cursor:
        if alone:
            cursor.execute(_SAMPLE, {"names": list(settings.JOB_QUEUES)})


def unpaused_queues() -> list[str]:
    """The queues where tickets may be issued and counted."""
    names: dict[str, Any] = {"names": list(settings.JOB_QUEUES)}
    with connection.cursor() as cursor:
        cursor.execute(_UNPAUSED, names)
        return [row[0] for row in cursor.fetchall()]


def unmark(ids: list[UUID]) -> None:
    """Their tickets did not go out after all."""
    Job.objects.filter(id__in=ids, state__in=WAITING).update(dispatched_at=None)


@contextmanager
def only_one(lock: int) -> Iterator[bool]:
    """A transaction, and whether it is the only one of its kind just now."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [lock])
        yield cursor.fetchone()[0]


def _expire() -> int:
    """A batch of them, in a transaction of its own."""
    with only_one(EXPIRE_LOCK) as alone:
        if not alone:
            return 0
        late = Job.objects.unfinished().filter(state__in=WAITING, expires_at__lte=Now())
        ids = list(late.select_for_update(skip_locked=True).values_list("id", flat=True)[:BATCH])
        if not ids:
            return 0
        expired = Job.objects.filter(id__in=ids).expire()
        note([Event(job_id=each, verb="expired", actor="dispatcher") for each in ids], state=State.REVOKED)
        return expired


def _issue(queue: str) -> int:
    """Marked in a transaction, published after it: a crash in between leaves a ticket that is lost, not a job."""
    total = 0
    while True:
        with only_one(ISSUE_LOCK) as alone:
            batch = _mark(queue, BATCH, tasks=[*_paced_tasks(), *batch_tasks()], only=False) if alone else []
        issued = _publish(batch)
        total += issued
        if issued < BATCH:
            return total


def _issue_paced(task: str, queues: list[str]) -> int:
    """The generic cell rate algorithm (ITU-T I.371): one moment per task says when the next start is due."""
    interval = policy(task).interval or 0
    with only_one(ISSUE_LOCK) as alone, connection.cursor() as cursor:
        if not alone:
            return 0
        cursor.execute(_MAY_START, {"task": task, "interval": interval, "burst": settings.DISPATCH_SECONDS})
        [allowed] = cursor.fetchone()
        batch: list[Ticket] = []
        for queue in queues:
            batch += _mark(queue, allowed - len(batch), tasks=[task], only=True)
        cursor.execute(_STARTED, {"task": task, "seconds": interval * len(batch), "burst": settings.DISPATCH_SECONDS})
    return _publish(batch)


def _publish(batch: list[Ticket]) -> int:
    if batch and not tickets.publish(batch):
        unmark([ticket.job for ticket in batch])
        return 0
    return len(batch)


def _mark(queue: str, limit: int, *, tasks: list[str], only: bool) -> list[Ticket]:
    """Note tickets as issued, for these tasks only or for all others."""
    with connection.cursor() as cursor:
        cursor.execute(_ISSUE, {"queue": queue, "batch": limit, "tasks": tasks, "only": only})
        return [Ticket(*row) for row in cursor.fetchall()]


def _paced_tasks() -> list[str]:
    return [task for task in tables() if policy(task).rate]
