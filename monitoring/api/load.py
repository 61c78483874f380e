"""How the house is doing over HTTP: queues, workers, health."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Now
from django.http import HttpRequest
from ninja import Router, Schema

from api.problems import RETRY_SOON, Problem
from api.tokens import allowed
from jobs.models import Worker
from monitoring import queues
from monitoring.readiness import readiness

router = Router(tags=["monitoring"])
READ = allowed("read", "jobs.view_queue")


class Health(Schema):
    status: str
    parts: dict[str, str]


class WorkerProcess(Schema):
    """A process that beats: a worker, a dispatcher, a beat or a watch."""

    id: UUID
    kind: str
    name: str
    state: str
    is_alive: bool
    host: str
    pid: int
    queues: list[str]
    concurrency: int
    started_at: datetime
    heartbeat_at: datetime


@router.get("/workers/stats", auth=READ, response={200: queues.WorkerStats})
def worker_stats(request: HttpRequest) -> queues.WorkerStats:
    """Due jobs per priority, running jobs, everything ever failed and succeeded, workers that are up."""
    return queues.worker_stats()


@router.get("/workers/health", auth=READ, response={200: Health})
def worker_health(request: HttpRequest) -> Any:
    """200: everything works. 503 otherwise; `down` names the parts that do not."""
    found = readiness()
    parts = {part.name: part.text for part in found.parts}
    down = [part.name for part in found.parts if not part.ok]
    if down:
        raise Problem("unavailable", f"Down: {', '.join(down)}.", headers=RETRY_SOON, down=down, parts=parts)
    return {"status": found.status, "parts": parts}


@router.get("/workers", auth=allowed("read", "jobs.view_worker"), response={200: list[WorkerProcess]})
def list_workers(request: HttpRequest) -> Any:
    """Every process that is not known to be dead."""
    alive = Q(heartbeat_at__gt=Now() - timedelta(seconds=settings.LEASE_SECONDS))
    rows = Worker.objects.exclude(state=Worker.State.DEAD).order_by("kind", "name")
    return rows.annotate(is_alive=alive)


@router.get("/queues", auth=READ, response={200: list[queues.QueueStats]})
def list_queues(request: HttpRequest) -> list[queues.QueueStats]:
    """Every queue: its load now, its pause, and its throughput, waiting and run times of the last hour."""
    return queues.queue_stats()


@router.get("/queues/{name}", auth=READ, response={200: queues.QueueStats})
def queue_stats(request: HttpRequest, name: str) -> queues.QueueStats:
    """One queue."""
    found = {queue.name: queue for queue in queues.queue_stats()}
    if name not in found:
        raise Problem("not-found", f"There is no queue of that name; there are {', '.join(found)}.")
    return found[name]
