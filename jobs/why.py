"""Why a job is not running, as far as the rows tell."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from jobs.models import Job, Pace, Queue, Worker
from jobs.policies import policy
from jobs.states import WAITING, State

COUNTED_AHEAD = 10_000


@dataclass(frozen=True)
class Reason:
    """`code` is stable; `text` is for people; `until` is when it passes by itself, if that is known."""

    code: str
    text: str
    until: datetime | None = None


def look_up(job_id: UUID) -> Any:
    """The job with PostgreSQL's clock beside it; raises Job.DoesNotExist."""
    return Job.objects.annotate(now=Now()).get(pk=job_id)


def reasons(job: Any) -> list[Reason]:
    """What a job of `look_up` waits for, the most decisive first. Never empty."""
    if job.is_final:
        return [Reason("FINISHED", f"It is {job.state} since {job.finished_at:%Y-%m-%d %H:%M:%S} UTC.")]
    return list(_of_running(job) if job.state == State.STARTED else _of_waiting(job))


def _of_running(job: Any) -> Iterator[Reason]:
    worker = Worker.objects.filter(pk=job.worker_id).first()
    silent_since = job.now - timedelta(seconds=settings.LEASE_SECONDS)
    name = worker.name if worker else f"worker {job.worker_id}"
    if worker is None or worker.state == Worker.State.DEAD or worker.heartbeat_at < silent_since:
        yield Reason("WORKER_LOST", f"{name} has it but no longer answers; the dispatcher takes it back.")
    elif job.cancel_requested_at:
        yield Reason("CANCELLING", f"It is being cancelled; {name} ends it on its next beat.")
    else:
        yield Reason("RUNNING", f"It is running on {name}, attempt {job.attempt}.")


def _of_waiting(job: Any) -> Iterator[Reason]:
    found = [*_of_time(job), *_of_queue(job), *_of_rate(job)]
    if not found or all(reason.code == "AHEAD" for reason in found):
        found += _of_ticket(job)
    yield from found


def _of_time(job: Any) -> Iterator[Reason]:
    if job.expires_at is not None and job.expires_at <= job.now:
        yield Reason("EXPIRED", "It was not started before its time ran out; it is about to be revoked.")
    if job.run_at > job.now:
        what = f"retry {job.retries} of {job.max_retries}" if job.state == State.RETRY else "its time"
        yield Reason("WAITING_UNTIL", f"It waits for {what}.", until=job.run_at)


def _of_queue(job: Any) -> Iterator[Reason]:
    queue = Queue.objects.filter(name=job.queue).exclude(paused_at=None).first()
    if queue is not None:
        said = f": {queue.pause_reason}" if queue.pause_reason else ""
        yield Reason("QUEUE_PAUSED", f"Queue '{job.queue}' was paused by {queue.paused_by}{said}.")
    own = "solo" if job.deaths + 1 >= job.max_deaths else job.queue
    if not _workers(job).filter(queues__contains=[own]).exists():
        yield Reason("NO_WORKER", f"No worker is up on queue '{own}'.")
    ahead = _ahead(job)[: COUNTED_AHEAD + 1].count()
    if ahead and job.run_at <= job.now:
        many = f"more than {COUNTED_AHEAD:,}" if ahead > COUNTED_AHEAD else f"{ahead:,}"
        yield Reason("AHEAD", f"{many} due job{'s are' if ahead > 1 else ' is'} ahead of it on queue '{job.queue}'.")


def _of_rate(job: Any) -> Iterator[Reason]:
    rate = policy(job.task).rate
    pace = Pace.objects.filter(task=job.task, next_at__gt=job.now).first() if rate else None
    if pace is not None:
        yield Reason("RATE", f"Task '{job.task}' may start {rate} over all workers.", until=pace.next_at)


def _of_ticket(job: Any) -> Iterator[Reason]:
    """Due, and nothing in its way but the ticket."""
    if job.dispatched_at is not None:
        yield Reason("DUE", "It is due and its ticket is out: the next free worker takes it.")
        return
    if policy(job.task).is_batch:
        yield Reason("DUE", "It is due: the next worker that answers the doorbell of its task takes it with others.")
        return
    dispatchers = Worker.objects.filter(kind=Worker.Kind.DISPATCHER, state=Worker.State.UP)
    alive = dispatchers.filter(heartbeat_at__gt=job.now - timedelta(seconds=settings.LEASE_SECONDS))
    if alive.exists():
        yield Reason("NO_TICKET", "It is due but has no ticket yet: the dispatcher is about to issue one.")
    else:
        yield Reason("NO_DISPATCHER", "It is due but has no ticket, and no dispatcher is alive to issue one.")


def _workers(job: Any) -> QuerySet[Worker]:
    since = job.now - timedelta(seconds=settings.LEASE_SECONDS)
    return Worker.objects.filter(kind=Worker.Kind.WORKER, state=Worker.State.UP, heartbeat_at__gt=since)


def _ahead(job: Any) -> QuerySet[Job]:
    earlier = Q(run_at__lt=job.run_at) | Q(run_at=job.run_at, pk__lt=job.pk)
    return Job.objects.unfinished().filter(earlier, queue=job.queue, state__in=WAITING, run_at__lte=job.now)
