"""Who is working: worker processes, how busy they are, and with what."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, DurationField, ExpressionWrapper, F, Min
from django.db.models.functions import Now

from api.readfirst import duration
from jobs.models import Job, Worker
from jobs.states import State

SLOTS_DRAWN = 10
# One that vanished without being told to is missed this long.
MISSED = timedelta(minutes=15)


@dataclass(frozen=True)
class Hand:
    """A worker process."""

    worker: Any
    busy: int
    task: str
    running_for: str
    is_silent: bool

    @property
    def lamp(self) -> str:
        if self.is_silent:
            return "failure"
        return "retry" if self.worker.state == Worker.State.STOPPING else "success" if self.busy else "idle"

    @property
    def heartbeat(self) -> str:
        return duration(self.worker.age)

    @property
    def slots(self) -> list[bool]:
        return [index < self.busy for index in range(min(self.worker.concurrency, SLOTS_DRAWN))]


@dataclass(frozen=True)
class Crew:
    hands: list[Hand]

    @property
    def alive(self) -> list[Hand]:
        return [hand for hand in self.hands if not hand.is_silent]

    @property
    def silent(self) -> list[Hand]:
        return [hand for hand in self.hands if hand.is_silent]

    @property
    def busy(self) -> int:
        return sum(hand.busy for hand in self.hands)

    @property
    def slots(self) -> int:
        return sum(hand.worker.concurrency for hand in self.alive)

    @property
    def queues(self) -> set[str]:
        return {queue for hand in self.alive for queue in hand.worker.queues}


def crew() -> Crew:
    """The latest life of every worker, those that fell silent first."""
    age = ExpressionWrapper(Now() - F("heartbeat_at"), output_field=DurationField())
    workers = Worker.objects.filter(kind=Worker.Kind.WORKER, heartbeat_at__gt=Now() - MISSED).annotate(age=age)
    latest = list(workers.order_by("name", "-started_at").distinct("name"))
    missed = [worker for worker in latest if worker.state != Worker.State.DEAD or worker.stop_requested_at is None]
    runs = _runs()
    hands = [_hand(worker, runs.get(worker.pk, {})) for worker in missed]
    return Crew(sorted(hands, key=lambda hand: (not hand.is_silent, hand.worker.name)))


def _runs() -> dict[Any, dict[str, Any]]:
    """Jobs that run, by worker; of each worker the one that has run longest."""
    started = Job.objects.unfinished().filter(state=State.STARTED).order_by()
    counts: Any = started.values("worker_id").annotate(busy=Count("pk"), since=Min("started_at"))
    runs: dict[Any, dict[str, Any]] = {row["worker_id"]: row for row in counts}
    age = ExpressionWrapper(Now() - F("started_at"), output_field=DurationField())
    longest = started.annotate(age=age).order_by("worker_id", "started_at").distinct("worker_id")
    for worker, task, lasts in longest.values_list("worker_id", "task", "age"):
        runs.get(worker, {}).update(task=task, lasts=lasts)
    return runs


def _hand(worker: Any, run: dict[str, Any]) -> Hand:
    lease = timedelta(seconds=settings.LEASE_SECONDS)
    return Hand(
        worker=worker,
        busy=run.get("busy", 0),
        task=run.get("task", ""),
        running_for=duration(run.get("lasts")),
        is_silent=worker.state == Worker.State.DEAD or worker.age > lease,
    )
