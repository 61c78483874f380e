"""What the queues and workers are doing: the numbers behind the API, the dashboard and the metrics."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, DurationField, ExpressionWrapper, F, Min, Q, Sum
from django.db.models.functions import Now
from django.utils import timezone

from jobs.models import Job, Queue, Worker
from jobs.states import WAITING, State
from monitoring.models import Rollup, RollupProgress
from monitoring.rollups import floor_minute, recent
from monitoring.totals import Totals, overall, totals

HOUR = timedelta(hours=1)
# While nobody builds rollups, counting the rows themselves must stay cheap: what is older is missing for the moment.
COUNTED_LIVE = timedelta(hours=2)


@dataclass(frozen=True)
class WorkerStats:
    queued_high: int
    queued_default: int
    queued_low: int
    active_tasks: int
    failed_tasks: int
    success_tasks: int
    workers_online: int


@dataclass(frozen=True)
class QueueStats:
    """A queue now, and in the last hour."""

    name: str
    depth: int
    oldest_age_seconds: float | None
    running: int
    paused: bool
    paused_by: str
    pause_reason: str
    succeeded: int
    failed: int
    per_minute: float
    wait_p50_ms: float | None
    wait_p95_ms: float | None
    run_p50_ms: float | None
    run_p95_ms: float | None


def worker_stats() -> WorkerStats:
    """Failed and succeeded since the beginning: a job that fails again after a replay has failed twice."""
    load = _load()
    succeeded, failed = _ever()
    return WorkerStats(
        **{f"queued_{name}": load[name]["depth"] if name in load else 0 for name in settings.PRIORITIES},
        active_tasks=sum(queue["running"] for queue in load.values()),
        failed_tasks=failed,
        success_tasks=succeeded,
        workers_online=_workers_online(),
    )


def queue_stats() -> list[QueueStats]:
    """Every declared queue, in the order in which they are declared."""
    load, pauses, hour = _load(), Queue.objects.in_bulk(), last_hour()
    return [
        _queue(name, load.get(name, {}), pauses.get(name, Queue(name=name)), hour.get(name, Totals()))
        for name in settings.JOB_QUEUES
    ]


def last_hour() -> dict[str, Totals]:
    """Totals per queue of the last sixty minutes: what is built from rollups, the rest from the rows."""
    now = timezone.now()
    since = floor_minute(now - HOUR)
    built = _live_from(now)
    parts = totals(Rollup.objects.filter(minute__gte=since, minute__lt=built), "queue")
    for queue, part in recent(max(built, since), now).items():
        parts[queue] = parts.get(queue, Totals()) + part
    return parts


def _load() -> dict[str, dict[str, Any]]:
    """Due jobs that wait, the age of the oldest, and running jobs, of every queue that has any."""
    waits = Q(state__in=WAITING, run_at__lte=Now())
    rows: Any = (
        Job.objects.unfinished()
        .order_by()
        .values("queue")
        .annotate(
            depth=Count("pk", filter=waits),
            running=Count("pk", filter=Q(state=State.STARTED)),
            oldest=Min("run_at", filter=waits),
        )
        .annotate(age=ExpressionWrapper(Now() - F("oldest"), output_field=DurationField()))
    )
    return {row["queue"]: row for row in rows}


def _queue(name: str, load: dict[str, Any], row: Queue, hour: Totals) -> QueueStats:
    age = load.get("age")
    return QueueStats(
        name=name,
        depth=load.get("depth", 0),
        oldest_age_seconds=round(age.total_seconds(), 3) if age is not None else None,
        running=load.get("running", 0),
        paused=row.is_paused,
        paused_by=row.paused_by,
        pause_reason=row.pause_reason,
        succeeded=hour.succeeded,
        failed=hour.failed,
        per_minute=round((hour.succeeded + hour.failed) / 60, 2),
        wait_p50_ms=hour.wait_ms(0.5),
        wait_p95_ms=hour.wait_ms(0.95),
        run_p50_ms=hour.run_ms(0.5),
        run_p95_ms=hour.run_ms(0.95),
    )


def _ever() -> tuple[int, int]:
    """Succeeded and failed: the frozen minutes' sum, the minutes still counted again, and those not built yet."""
    now = timezone.now()
    progress = RollupProgress.objects.first()
    live = overall(recent(_live_from(now, progress), now).values())
    if progress is None:
        return live.succeeded, live.failed
    built = Rollup.objects.filter(minute__gte=progress.frozen_until, minute__lt=progress.built_until)
    sums = built.aggregate(succeeded=Sum("succeeded", default=0), failed=Sum("failed", default=0))
    return (
        progress.succeeded + sums["succeeded"] + live.succeeded,
        progress.failed + sums["failed"] + live.failed,
    )


def _live_from(now: datetime, progress: RollupProgress | None = None) -> datetime:
    progress = progress or RollupProgress.objects.first()
    oldest = now - COUNTED_LIVE
    return max(progress.built_until, oldest) if progress else oldest


def _workers_online() -> int:
    lease = timedelta(seconds=settings.LEASE_SECONDS)
    up = Worker.objects.filter(kind=Worker.Kind.WORKER, state=Worker.State.UP)
    return up.filter(heartbeat_at__gt=Now() - lease).count()
