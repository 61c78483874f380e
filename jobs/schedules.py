"""Schedules as seen between their ticks: when each is due next, running one now, enabling and disabling."""

from datetime import datetime, timedelta
from typing import Any

from celery import current_app
from django.db import transaction
from django.utils import timezone
from django_celery_beat.models import PeriodicTask, PeriodicTasks

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
    job = submit(task, payload, key=key, scope=scope, **entry.job_options() | _expiry(entry))
    if not job.replayed:
        Event.objects.create(job=job, verb="run now", actor=actor, details={"schedule": schedule.name})
    return job


def switch(schedule: PeriodicTask, *, enabled: bool, actor: str, reason: str = "") -> None:
    """Let a schedule tick again, or no more; raises Conflict when it does already."""
    with transaction.atomic():
        other = PeriodicTask.objects.filter(pk=schedule.pk, enabled=not enabled)
        # Without a last run, beat waits for the next tick instead of making up for those while it was off.
        if not other.update(enabled=enabled, last_run_at=None, date_changed=timezone.now()):
            raise Conflict(f"Schedule '{schedule.name}' is {'enabled' if enabled else 'disabled'} already.")
        PeriodicTasks.update_changed()
        verb = "schedule enabled" if enabled else "schedule disabled"
        Event.objects.create(verb=verb, actor=actor, reason=reason, details={"schedule": schedule.name})


def next_run(schedule: PeriodicTask) -> datetime | None:
    """When it is due next; None while it is off, and after its only time."""
    now = timezone.now()
    due = due_after(TickEntry(schedule, app=current_app), now) if schedule.enabled else now
    return due if due > now else None


def due_after(entry: Any, moment: datetime) -> datetime:
    """The first time after a moment at which an entry is due.

    An entry reads beat's clock, which stands still in every process but beat: here the moment itself is its present.
    """
    entry.schedule.nowfun = lambda: moment
    remaining: timedelta = entry.schedule.remaining_estimate(moment)
    return moment + remaining


def _expiry(entry: Any) -> dict[str, datetime]:
    """Seconds until it expires count from now, not from beat's clock."""
    seconds = entry.options.get("expires")
    return {"expires_at": timezone.now() + timedelta(seconds=seconds)} if isinstance(seconds, int) else {}
