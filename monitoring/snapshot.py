"""The whole state of the house in one query, cheap enough to be asked every two seconds for ever."""

import json
from typing import Any

from django.conf import settings
from django.db import connection

# Older than this the dispatcher's samples are no longer the present, and the rows themselves are counted.
SAMPLE_SECONDS = 5

# One query, because a feed that asked five times a tick would show five different moments.
# `counted` reads nothing while the samples are fresh: its condition is the same for every row.
LIVE_SNAPSHOT = """
/* live snapshot */
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
samples AS MATERIALIZED (
  SELECT coalesce(min(sampled_at), '-infinity') > now - make_interval(secs => %(fresh)s) AS are_fresh
    FROM clock LEFT JOIN jobs_queue AS q ON q.name = ANY(%(queues)s) GROUP BY now
), counted AS (
  SELECT queue, count(*) FILTER (WHERE state IN ('PENDING', 'RETRY') AND run_at <= clock_timestamp()) AS depth,
         min(run_at) FILTER (WHERE state IN ('PENDING', 'RETRY') AND run_at <= clock_timestamp()) AS oldest,
         count(*) FILTER (WHERE state = 'STARTED') AS running
    FROM jobs_job WHERE finished_at IS NULL AND NOT (SELECT are_fresh FROM samples) GROUP BY queue
), load AS (
  SELECT name, CASE WHEN are_fresh THEN q.depth ELSE coalesce(counted.depth, 0) END AS depth,
         CASE WHEN are_fresh THEN q.running ELSE coalesce(counted.running, 0) END AS running,
         CASE WHEN are_fresh THEN q.oldest_due_at ELSE counted.oldest END AS oldest, q.paused_at, q.paused_by
    FROM unnest(%(queues)s::text[]) AS name CROSS JOIN samples
    LEFT JOIN jobs_queue AS q USING (name) LEFT JOIN counted ON counted.queue = name
), progress AS (
  SELECT frozen_until, built_until, succeeded, failed FROM monitoring_rollupprogress
), since AS (
  SELECT greatest((SELECT built_until FROM progress), now - interval '2 hours') AS moment FROM clock
), ended AS (
  SELECT (SELECT coalesce(sum(succeeded), 0) FROM progress) AS succeeded,
         (SELECT coalesce(sum(failed), 0) FROM progress) AS failed
  UNION ALL
  SELECT coalesce(sum(r.succeeded), 0), coalesce(sum(r.failed), 0)
    FROM monitoring_rollup AS r, progress AS p WHERE r.minute >= p.frozen_until AND r.minute < p.built_until
  UNION ALL
  SELECT (SELECT count(*) FROM jobs_job, since WHERE finished_at >= since.moment AND state = 'SUCCESS'),
         (SELECT count(*) FROM jobs_attempt, since
           WHERE ended_at >= since.moment AND outcome IN ('FAILURE', 'LOST') AND delay IS NULL)
)
SELECT clock.now,
       (SELECT jsonb_agg(jsonb_build_object('name', name, 'depth', depth, 'running', running,
               'oldest_age_seconds', round(extract(epoch FROM clock.now - oldest)::numeric, 3),
               'paused', paused_at IS NOT NULL, 'paused_by', coalesce(paused_by, '')))
          FROM load),
       (SELECT sum(succeeded)::bigint FROM ended), (SELECT sum(failed)::bigint FROM ended),
       (SELECT count(*) FROM jobs_worker WHERE kind = 'worker' AND state = 'UP'
           AND heartbeat_at > clock.now - make_interval(secs => %(lease)s)),
       (SELECT count(*) FROM deadletters_deadletter WHERE resolution IS NULL)
  FROM clock
"""


def snapshot() -> dict[str, Any]:
    """The numbers of GET /api/workers/stats, those of every queue, and open dead letters."""
    given: dict[str, Any] = {
        "queues": list(settings.JOB_QUEUES),
        "fresh": SAMPLE_SECONDS,
        "lease": settings.LEASE_SECONDS,
    }
    with connection.cursor() as cursor:
        cursor.execute(LIVE_SNAPSHOT, given)
        now, load, succeeded, failed, workers, letters = cursor.fetchone()
    # Django hands jsonb of a raw cursor over as text.
    queues = json.loads(load)
    depth = {queue["name"]: queue["depth"] for queue in queues}
    return {
        "at": now.isoformat(),
        **{f"queued_{name}": depth[name] for name in settings.PRIORITIES},
        "active_tasks": sum(queue["running"] for queue in queues),
        "failed_tasks": failed,
        "success_tasks": succeeded,
        "workers_online": workers,
        "open_dead_letters": letters,
        "queues": queues,
    }
