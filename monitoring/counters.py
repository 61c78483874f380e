"""Counts that only ever rise, per queue and task: what Prometheus takes for counters.

They are the sum of what CounterState keeps, the rollups after it, and the rows nobody has rolled up yet. No
process holds a number, so restarts reset nothing and every process gives the same answer.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, Min
from django.utils import timezone

from jobs.models import Event, Job
from monitoring.models import CounterState, Rollup, RollupProgress
from monitoring.rollups import recent_per_task
from monitoring.totals import Totals, totals

Key = tuple[str, str]
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
FOLD_AFTER = timedelta(hours=1)
# While nobody builds rollups the counters stop here; counting ever more rows at every scrape would cost too much.
COUNTED_LIVE = timedelta(hours=2)
REPLAYED = "replayed"


@dataclass
class Counts:
    """Totals per (queue, task), and how often each verb that no rollup counts happened there."""

    totals: dict[Key, Totals] = field(default_factory=dict)
    events: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def add(self, parts: Iterable[tuple[Key, Totals]]) -> None:
        for key, part in parts:
            self.totals[key] = self.totals.get(key, Totals()) + part


def counts() -> Counts:
    """Everything counted so far. Call it where all reads see one snapshot, or a minute may be counted twice."""
    state = CounterState.objects.first()
    counted, since = _stored(state), state.until if state else BEGINNING
    built = _built_until()
    counted.add(totals(Rollup.objects.filter(minute__gte=since, minute__lt=built), "queue", "task").items())
    counted.add(recent_per_task(built, min(timezone.now(), built + COUNTED_LIVE)).items())
    counted.events.update(_events(since, None))
    return counted


def fold() -> None:
    """Add what is frozen to CounterState, so that neither age nor retention of rollups touches the counters."""
    progress = RollupProgress.objects.first()
    if progress is None or not _is_behind(progress.frozen_until):
        return
    CounterState.objects.get_or_create(id=1, defaults={"until": BEGINNING})
    with transaction.atomic():
        state = CounterState.objects.select_for_update(skip_locked=True).first()
        if state is not None and state.until < progress.frozen_until:
            _fold_into(state, progress.frozen_until)


def _is_behind(frozen: datetime) -> bool:
    state = CounterState.objects.first()
    return state is None or frozen - state.until >= FOLD_AFTER


def _fold_into(state: CounterState, until: datetime) -> None:
    counted = _stored(state)
    rollups = Rollup.objects.filter(minute__gte=state.until, minute__lt=until)
    counted.add(totals(rollups, "queue", "task").items())
    counted.events.update(_events(state.until, until))
    state.counts = [{"queue": queue, "task": task, **asdict(part)} for (queue, task), part in counted.totals.items()]
    state.events = [[*key, count] for key, count in counted.events.items()]
    state.until = until
    state.save()


def _stored(state: CounterState | None) -> Counts:
    counted = Counts()
    for row in state.counts if state else ():
        counted.totals[row["queue"], row["task"]] = Totals(
            **{name: row[name] for name in row.keys() - {"queue", "task"}}
        )
    for *key, count in state.events if state else ():
        counted.events[tuple(key)] = count
    return counted


def _built_until() -> datetime:
    progress = RollupProgress.objects.first()
    if progress is not None:
        return progress.built_until
    first: datetime | None = Job.objects.aggregate(first=Min("created_at"))["first"]
    return first or timezone.now()


def _events(since: datetime, until: datetime | None) -> dict[Any, int]:
    found = Event.objects.filter(at__gte=since, verb=REPLAYED, job__isnull=False)
    if until is not None:
        found = found.filter(at__lt=until)
    rows = found.order_by().values_list("verb", "job__queue", "job__task").annotate(count=Count("pk"))
    return {(verb, queue, task): count for verb, queue, task, count in rows}


def read_only_snapshot() -> None:
    """Make the transaction just begun see one moment of the database, and end what takes too long."""
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute("SET LOCAL statement_timeout = '5s'")
