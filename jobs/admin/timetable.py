"""When schedules run: the next times, and what became of the last ones."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from celery import current_app
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from jobs.models import IdempotencyKey, Job
from jobs.retention import shortest_retention
from jobs.schedules import due_after
from jobs.ticks import MISSED_AFTER, TickEntry

SHOWN = 5
WINDOWS = (timedelta(minutes=10), timedelta(hours=6), timedelta(days=6), timedelta(days=32))


@dataclass(frozen=True)
class Tick:
    """A moment at which a schedule was due, and its job, if there was one."""

    due: datetime
    job: Job | None

    @property
    def is_missed(self) -> bool:
        return self.job is None and timezone.now() - self.due > MISSED_AFTER


@dataclass(frozen=True)
class Timetable:
    upcoming: list[datetime]
    past: list[Tick]

    @property
    def last(self) -> Tick | None:
        return next((tick for tick in self.past if tick.job is not None), None)

    @property
    def missed(self) -> int:
        return sum(tick.is_missed for tick in self.past)


def timetables(schedules: Iterable[PeriodicTask]) -> dict[int, Timetable]:
    """Timetables by the schedule's id; all their jobs are looked up by their keys at once."""
    entries = {schedule.pk: entry for schedule in schedules if (entry := _entry(schedule))}
    past = {pk: _past(entry) for pk, entry in entries.items()}
    keys = [entries[pk].key(due) for pk, dues in past.items() if entries[pk].is_job for due in dues]
    rows = IdempotencyKey.objects.filter(scope="beat", key__in=keys).select_related("job")
    jobs = {row.key: row.job for row in rows.defer("job__payload", "job__result", "job__traceback")}
    return {
        pk: Timetable(
            upcoming=list(_upcoming(entry)) if entry.model.enabled else [],
            past=[Tick(due, jobs.get(entry.key(due))) for due in past[pk]],
        )
        for pk, entry in entries.items()
    }


def _entry(schedule: PeriodicTask) -> Any:
    try:
        return TickEntry(schedule, app=current_app)
    except (ValueError, TypeError, AttributeError):
        # What beat itself cannot read, it leaves out too.
        return None


def _upcoming(entry: Any) -> Iterator[datetime]:
    moment = timezone.now()
    for _ in range(SHOWN):
        due = due_after(entry, moment)
        if due <= moment:
            # A clock time that was its only one.
            return
        yield due
        moment = due


def _past(entry: Any) -> list[datetime]:
    """The latest moments it was due, newest first, since it was last edited and as long as jobs are kept."""
    now = timezone.now()
    if not entry.is_job or not entry.model.enabled:
        return []
    oldest = max(entry.model.date_changed, now - shortest_retention() / 2)
    found: list[datetime] = []
    for window in WINDOWS:
        found = list(_between(entry, max(oldest, now - window), now))
        if len(found) >= SHOWN or now - window < oldest:
            break
    return found[-SHOWN:][::-1]


def _between(entry: Any, start: datetime, end: datetime) -> Iterator[datetime]:
    due = due_after(entry, start)
    while due <= end:
        yield due
        following = due_after(entry, due)
        if following <= due:
            return
        due = following
