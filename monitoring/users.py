"""One user's jobs: those whose payload names the user in a field the task's policy lists as searchable."""

from bisect import bisect_right
from datetime import datetime
from typing import Any

from jobs.models import Job
from jobs.states import State
from monitoring.activity import Activity, document
from monitoring.histograms import BOUNDS_MS, BUCKETS
from monitoring.periods import Period
from monitoring.totals import Totals

MOST_JOBS = 50_000
COLUMNS = ["id", "task", "queue", "state", "created_at", "run_at", "started_at", "finished_at", "retries", "error_code"]


def user_activity(period: Period, user_id: str) -> Activity:
    """Every job of one user, newest first."""
    mine = Job.objects.filter(labels__label=f"user_id:{user_id}")
    jobs = mine.filter(created_at__gte=period.start, created_at__lt=period.end).values(*COLUMNS)[:MOST_JOBS]
    per_day: dict[tuple[datetime, str], Totals] = {}
    rows = []
    for job in jobs:
        day = job["created_at"].replace(hour=0, minute=0, second=0, microsecond=0)
        per_day[day, job["task"]] = per_day.get((day, job["task"]), Totals()) + _counted(job)
        rows.append([_plain(job[name]) for name in COLUMNS])
    return Activity(document("User activity", period, user_id, per_day), COLUMNS, rows)


def _counted(job: dict[str, Any]) -> Totals:
    """What one job adds. Unlike a rollup it counts a job as it stands now, on the day it was submitted."""
    failed = int(job["state"] == State.FAILURE)
    succeeded = int(job["state"] == State.SUCCESS)
    counts: dict[str, Any] = {"submitted": 1, "succeeded": succeeded, "failed": failed, "dead_lettered": failed}
    if not succeeded:
        return Totals(**counts, retried=job["retries"])
    wait, run = _ms(job["run_at"], job["started_at"]), _ms(job["started_at"], job["finished_at"])
    return Totals(
        **counts,
        retried=job["retries"],
        started=1,
        wait_ms_sum=round(wait),
        run_ms_sum=round(run),
        wait_buckets=_histogram(wait),
        run_buckets=_histogram(run),
    )


def _ms(start: datetime, end: datetime) -> float:
    return max(0.0, (end - start).total_seconds() * 1000)


def _histogram(ms: float) -> list[int]:
    bucket = bisect_right(BOUNDS_MS, ms)
    return [int(index == bucket) for index in range(BUCKETS)]


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value if isinstance(value, int) else str(value or "")
