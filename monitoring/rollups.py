"""Building the rollups: what happened in each minute, per queue and task, from index ranges of that minute alone.

A row belongs to the minute in which its fact was recorded: a job to that of created_at, an attempt with its
waiting and run time to that of its end, a letter to that of its burial. So a minute can be counted again at
any time with the same outcome. It is, for ten minutes and until every transaction open meanwhile has ended;
then it is frozen.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Min, Sum
from django.utils import timezone

from jobs.models import Job
from monitoring.histograms import BOUNDS_MS, BUCKETS
from monitoring.models import Rollup, RollupProgress
from monitoring.totals import Totals

MINUTE = timedelta(minutes=1)
RECOUNTED = timedelta(minutes=10)
# A transaction left open must not have every minute since counted over and over.
WAITS_FOR_TRANSACTIONS = timedelta(hours=1)
STEP = timedelta(hours=2)
STEPS_PER_RUN = 24
REPUBLISHED, REFUSED = "ticket republished", "ticket refused"

_RULES = {
    "submitted": "what = 'SUBMITTED'",
    "started": "run_ms IS NOT NULL",
    "succeeded": "what = 'SUCCESS'",
    "failed": "what IN ('FAILURE', 'LOST') AND final",
    "retried": "what = 'RETRY'",
    "dead_lettered": "what = 'LETTER'",
    "revoked": "what = 'REVOKED'",
    "deaths": "what = 'LOST'",
    "released": "what = 'RELEASED'",
    "fenced": "fenced",
    "republished": "what = 'REPUBLISHED'",
    "duplicates": "what = 'DUPLICATE'",
}


def _ms(start: str, end: str) -> str:
    """Without the CASE, greatest() would make an attempt that never started one that took no time."""
    return f"CASE WHEN {start} <= {end} THEN extract(epoch FROM {end} - {start}) * 1000 WHEN {start} > {end} THEN 0 END"


# A union of five index ranges, each row counted under several filters: more than one queryset can say.
_FACTS = f"""
SELECT created_at AS at, queue, task, 'SUBMITTED' AS what, false AS final, false AS fenced,
       NULL::float8 AS wait_ms, NULL::float8 AS run_ms
  FROM jobs_job WHERE created_at >= %(since)s AND created_at < %(until)s
UNION ALL
SELECT finished_at, queue, task, 'SUCCESS', true, false,
       {_ms("run_at", "started_at")}, {_ms("started_at", "finished_at")}
  FROM jobs_job WHERE finished_at >= %(since)s AND finished_at < %(until)s AND state = 'SUCCESS'
UNION ALL
SELECT a.ended_at, job.queue, job.task, a.outcome, a.delay IS NULL, a.fenced_at IS NOT NULL,
       {_ms("a.due_at", "a.started_at")}, {_ms("a.started_at", "a.ended_at")}
  FROM jobs_attempt AS a JOIN jobs_job AS job ON job.id = a.job_id
 WHERE a.ended_at >= %(since)s AND a.ended_at < %(until)s
UNION ALL
SELECT created_at, queue, task, 'LETTER', true, false, NULL, NULL
  FROM deadletters_deadletter WHERE created_at >= %(since)s AND created_at < %(until)s
UNION ALL
SELECT event.at, job.queue, job.task, counted.what, true, false, NULL, NULL
  FROM jobs_event AS event JOIN jobs_job AS job ON job.id = event.job_id
  JOIN (VALUES ('cancelled', 'REVOKED'), ('expired', 'REVOKED'), ('{REPUBLISHED}', 'REPUBLISHED'),
               ('{REFUSED}', 'DUPLICATE')) AS counted(verb, what) ON counted.verb = event.verb
 WHERE event.at >= %(since)s AND event.at < %(until)s
"""


def _histogram(duration: str) -> str:
    """One count per bucket."""
    bucket = f"width_bucket({duration}, ARRAY{list(BOUNDS_MS)}::float8[])"
    counts = ", ".join(f"count(*) FILTER (WHERE {bucket} = {index})" for index in range(BUCKETS))
    return f"ARRAY[{counts}]::int[]"


_COUNTED = {
    **{name: f"count(*) FILTER (WHERE {rule})" for name, rule in _RULES.items()},
    "wait_buckets": _histogram("wait_ms"),
    "run_buckets": _histogram("run_ms"),
    "wait_ms_sum": "coalesce(round(sum(wait_ms)), 0)::bigint",
    "run_ms_sum": "coalesce(round(sum(run_ms)), 0)::bigint",
}
_NAMES = ", ".join(_COUNTED)
# Rows there already are counted too, as nothing, so that what has vanished since becomes zero.
_BUILD = f"""
INSERT INTO monitoring_rollup AS old (minute, queue, task, {_NAMES})
SELECT date_trunc('minute', at, 'UTC'), queue, task, {", ".join(_COUNTED.values())}
  FROM ({_FACTS}
        UNION ALL
        SELECT minute, queue, task, 'BEFORE', false, false, NULL, NULL
          FROM monitoring_rollup WHERE minute >= %(since)s AND minute < %(until)s) AS fact
 GROUP BY 1, 2, 3
ON CONFLICT (minute, queue, task) DO UPDATE SET ({_NAMES}) = ({", ".join(f"EXCLUDED.{name}" for name in _COUNTED)})
 WHERE ({", ".join(f"old.{name}" for name in _COUNTED)})
       IS DISTINCT FROM ({", ".join(f"EXCLUDED.{name}" for name in _COUNTED)})
"""
_RECENT = f"SELECT queue, {', '.join(_COUNTED.values())} FROM ({_FACTS}) AS fact GROUP BY queue"
_RECENT_PER_TASK = f"SELECT queue, task, {', '.join(_COUNTED.values())} FROM ({_FACTS}) AS fact GROUP BY queue, task"

# Rows of a transaction still open will appear in minutes that have passed.
_HORIZON = """
SELECT clock_timestamp(), (SELECT min(xact_start) FROM pg_stat_activity
                            WHERE datname = current_database() AND backend_xid IS NOT NULL)
"""


@dataclass(frozen=True)
class Built:
    """What a run has done. `until` is None when another builder was at it."""

    until: datetime | None
    is_complete: bool


def build(*, wait: bool = False) -> Built:
    """Count every minute that is over and not frozen. After an outage it catches up, at most two days a run.

    One builder at a time, by a lock on the progress row; another is left alone, or waited for.
    """
    _ensure_progress()
    built = Built(None, is_complete=False)
    for _ in range(STEPS_PER_RUN):
        with transaction.atomic():
            progress = RollupProgress.objects.select_for_update(skip_locked=not wait).first()
            if progress is None:
                return built
            built = _step(progress)
        if built.is_complete:
            break
    return built


def recent(since: datetime, until: datetime) -> dict[str, Totals]:
    """The same counts per queue straight from the rows, for the minutes nobody has built yet."""
    with connection.cursor() as cursor:
        cursor.execute(_RECENT, {"since": since, "until": until})
        return {queue: Totals(**dict(zip(_COUNTED, counts, strict=True))) for queue, *counts in cursor.fetchall()}


def recent_per_task(since: datetime, until: datetime) -> dict[tuple[str, str], Totals]:
    """As `recent`, per queue and task."""
    with connection.cursor() as cursor:
        cursor.execute(_RECENT_PER_TASK, {"since": since, "until": until})
        found = cursor.fetchall()
    return {(queue, task): Totals(**dict(zip(_COUNTED, counts, strict=True))) for queue, task, *counts in found}


def floor_minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _ensure_progress() -> None:
    if not RollupProgress.objects.exists():
        first = Job.objects.aggregate(first=Min("created_at"))["first"]
        start = floor_minute(first or timezone.now())
        RollupProgress.objects.get_or_create(id=1, defaults={"frozen_until": start, "built_until": start})


def _step(progress: RollupProgress) -> Built:
    """Count one stretch of minutes, and freeze what can no longer change."""
    with connection.cursor() as cursor:
        cursor.execute(_HORIZON)
        now, oldest_transaction = cursor.fetchone()
        over = floor_minute(now)
        until = min(over, progress.frozen_until + STEP)
        cursor.execute(_BUILD, {"since": progress.frozen_until, "until": until})
    settled = max(min(oldest_transaction or now, now - RECOUNTED), now - WAITS_FOR_TRANSACTIONS)
    _freeze(progress, min(until, floor_minute(settled)))
    progress.built_until = until
    progress.save()
    return Built(until, is_complete=until == over)


def _freeze(progress: RollupProgress, until: datetime) -> None:
    if until <= progress.frozen_until:
        return
    frozen = Rollup.objects.filter(minute__gte=progress.frozen_until, minute__lt=until)
    sums = frozen.aggregate(succeeded=Sum("succeeded", default=0), failed=Sum("failed", default=0))
    progress.succeeded += sums["succeeded"]
    progress.failed += sums["failed"]
    progress.frozen_until = until
