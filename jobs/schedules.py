"""Schedules as seen between their ticks: when each is due next, and running one now."""

from datetime import datetime, timedelta
from typing import Any

from celery import current_app
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from jobs import registry
from jobs.errors import Conflict
from jobs.models import Event, Job
from jobs.submission import submit
from jobs.ticks import TickEntry


def run_now(schedule: PeriodicTask, *, actor: str, key: str | None = None, scope: str = "") -> Job:
    """Submit a schedule's job at once, whatever its next tick; raises Conflict when its task is no job."""
    entry = TickEntry(schedule, app=current_app)
    if not entry.is_job:
        raise Conflict(f"Schedule '{schedule.name}' is about '{schedule.task}', which is no task that makes jobs.")
    task = current_app.tasks[schedule.task]
    payload = registry.bound(task, tuple(entry.args), entry.kwargs)
    job = submit(task, payload, key=key, scope=scope, **entry.job_options())
    if not job.replayed:
        Event.objects.create(job=job, verb="run now", actor=actor, details={"schedule": schedule.name})
    return job


def next_run(schedule: PeriodicTask) -> datetime | None:
    """When it is due next, as far as this clock and its own tell; None while it is off."""
    if not schedule.enabled:
        return None
    entry: Any = TickEntry(schedule, app=current_app)
    now = timezone.now()
    remaining: timedelta = entry.schedule.remaining_estimate(now)
    return now + remaining
