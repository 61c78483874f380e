"""What is so at this moment, in a handful of small queries: labels first, then one column per metric."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis
from django.conf import settings
from django.db import connection
from prometheus_client.core import GaugeMetricFamily

from jobs.policies import policy, tables
from jobs.tickets import reading_client

MOST_WORKERS = 500


@dataclass(frozen=True)
class Reading:
    """One query, and the metrics its columns after the labels become; NULL is no sample."""

    labels: tuple[str, ...]
    metrics: tuple[tuple[str, str], ...]
    statement: str


QUEUES = Reading(
    ("queue",),
    (
        ("queue_depth", "Due jobs that wait for a worker."),
        ("queue_oldest_age_seconds", "How long the oldest of them has been due."),
        ("queue_running", "Jobs that run."),
        ("queue_paused", "1 while somebody has paused the queue."),
        ("queue_workers", "Workers that are up and serve the queue."),
    ),
    """
    SELECT wanted.name, coalesce(seen.depth, 0), coalesce(seen.age, 0), coalesce(seen.running, 0),
           (q.paused_at IS NOT NULL)::int,
           (SELECT count(*) FROM jobs_worker AS w
             WHERE w.kind = 'worker' AND w.state = 'UP' AND wanted.name = ANY(w.queues)
               AND w.heartbeat_at > clock_timestamp() - make_interval(secs => %(lease)s))
      FROM unnest(%(queues)s::text[]) AS wanted(name)
      LEFT JOIN jobs_queue AS q ON q.name = wanted.name
      LEFT JOIN (
        SELECT queue, count(*) FILTER (WHERE due) AS depth, count(*) FILTER (WHERE state = 'STARTED') AS running,
               extract(epoch FROM clock_timestamp() - min(run_at) FILTER (WHERE due)) AS age
          FROM (SELECT queue, state, run_at,
                       state IN ('PENDING', 'RETRY') AND run_at <= clock_timestamp() AS due
                  FROM jobs_job WHERE finished_at IS NULL) AS unfinished
         GROUP BY queue) AS seen ON seen.queue = wanted.name
    """,
)
# Jobs of a task with a rate, and those of a paused queue, wait without a ticket because they should.
DISPATCHER = Reading(
    (),
    (
        ("dispatcher_lag_seconds", "How long the oldest due job has been waiting for its ticket to be issued."),
        ("dispatcher_sweep_age_seconds", "Since when no dispatcher has finished a sweep."),
    ),
    """
    SELECT (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(run_at)), 0) FROM jobs_job
             WHERE finished_at IS NULL AND dispatched_at IS NULL AND state IN ('PENDING', 'RETRY')
               AND run_at <= clock_timestamp() AND task <> ALL(%(paced)s)
               AND queue NOT IN (SELECT name FROM jobs_queue WHERE paused_at IS NOT NULL)),
           (SELECT extract(epoch FROM clock_timestamp() - max(sampled_at)) FROM jobs_queue)
    """,
)
# The latest life of every name. One that was told to stop is not missed; one that vanished is, for a while.
WORKERS = Reading(
    ("worker", "kind"),
    (
        ("worker_up", "1 while the process beats."),
        ("worker_heartbeat_age_seconds", "Since when it has not."),
        ("worker_recent_starts", "How often a process of this name has started in the last ten minutes."),
    ),
    """
    SELECT name, kind, (state <> 'DEAD' AND age <= %(lease)s)::int, age, starts
      FROM (SELECT DISTINCT ON (kind, name) name, kind, state, stop_requested_at,
                   extract(epoch FROM clock_timestamp() - heartbeat_at) AS age,
                   count(*) FILTER (WHERE started_at > clock_timestamp() - interval '10 minutes')
                     OVER (PARTITION BY kind, name) AS starts
              FROM jobs_worker WHERE heartbeat_at > clock_timestamp() - interval '15 minutes'
             ORDER BY kind, name, started_at DESC) AS latest
     WHERE state <> 'DEAD' OR stop_requested_at IS NULL
     ORDER BY kind, name LIMIT %(most_workers)s
    """,
)
LETTERS = Reading(
    ("task", "cause"),
    (("dead_letters_open", "Dead letters that wait for a decision."),),
    "SELECT task, cause, count(*) FROM deadletters_deadletter WHERE resolution IS NULL GROUP BY task, cause",
)
REPLAYS = Reading(
    ("state",),
    (("replay_letters", "Letters of replays that are not over, by what became of them."),),
    """
    SELECT state, number FROM (
      SELECT coalesce(sum(total - done - skipped), 0), coalesce(sum(done), 0), coalesce(sum(skipped), 0)
        FROM deadletters_replayoperation WHERE state IN ('RUNNING', 'PAUSED')) AS operation(waiting, done, skipped)
     CROSS JOIN LATERAL (VALUES ('waiting', waiting), ('done', done), ('skipped', skipped)) AS part(state, number)
    """,
)
BEAT = Reading(
    (),
    (
        ("beat_last_tick_timestamp_seconds", "When beat last ran an entry of the schedule."),
        ("beat_leases", "Beats that hold the lease: one ticks, the others stand by."),
    ),
    """
    SELECT (SELECT extract(epoch FROM max(last_run_at)) FROM django_celery_beat_periodictask WHERE enabled),
           (SELECT count(*) FROM jobs_worker WHERE kind = 'beat' AND lease_until > clock_timestamp())
    """,
)
POSTGRES = Reading(
    (),
    (
        ("postgres_oldest_snapshot_seconds", "Age of the oldest transaction that keeps vacuum from cleaning."),
        ("postgres_connections", "Client connections in use."),
        ("postgres_connections_limit", "max_connections."),
        ("postgres_database_size_bytes", "Size of the database."),
        ("rollups_age_seconds", "How far the rollups are behind."),
    ),
    """
    SELECT coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)
                      FILTER (WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid())), 0),
           count(*), current_setting('max_connections')::int, pg_database_size(current_database()),
           (SELECT extract(epoch FROM clock_timestamp() - built_until) FROM monitoring_rollupprogress)
      FROM pg_stat_activity WHERE backend_type = 'client backend'
    """,
)
READINGS = (QUEUES, DISPATCHER, WORKERS, LETTERS, REPLAYS, BEAT, POSTGRES)


def gauges() -> Iterator[GaugeMetricFamily]:
    """Everything PostgreSQL knows; raises Django's database errors."""
    for reading in READINGS:
        yield from _families(reading, _rows(reading))


def redis_gauges() -> Iterator[GaugeMetricFamily]:
    """Whether Redis answers, and what it holds."""
    try:
        client = reading_client()
        lengths = {queue: client.llen(queue) for queue in settings.JOB_QUEUES}
        memory: Any = client.info("memory")
    except redis.RedisError:
        yield gauge("redis_up", "1 while Redis answers.", 0)
        return
    yield gauge("redis_up", "1 while Redis answers.", 1)
    yield gauge("redis_memory_bytes", "Memory Redis has in use.", memory["used_memory"])
    tickets = GaugeMetricFamily("switchyard_redis_tickets", "Tickets in the list of a queue.", labels=["queue"])
    for queue, length in lengths.items():
        tickets.add_metric([queue], length)
    yield tickets


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"switchyard_{name}", text, value=value)


def _families(reading: Reading, rows: list[tuple[Any, ...]]) -> list[GaugeMetricFamily]:
    width = len(reading.labels)
    families = [GaugeMetricFamily(f"switchyard_{name}", text, labels=reading.labels) for name, text in reading.metrics]
    for row in rows:
        for family, value in zip(families, row[width:], strict=True):
            if value is not None:
                family.add_metric(row[:width], float(value))
    return families


def _rows(reading: Reading) -> list[tuple[Any, ...]]:
    names: dict[str, Any] = {
        "queues": list(settings.JOB_QUEUES),
        "lease": settings.LEASE_SECONDS,
        "paced": [task for task in tables() if policy(task).rate],
        "most_workers": MOST_WORKERS,
    }
    with connection.cursor() as cursor:
        cursor.execute(reading.statement, names)
        return cursor.fetchall()
