"""What jobs did in a period: the content of the reports people ask for."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count
from django.db.models.functions import TruncDay

from deadletters.models import DeadLetter
from monitoring.documents import COUNT_COLUMNS, TIME_COLUMNS, Bar, Document, Table, count_cells, duration, time_cells
from monitoring.models import Rollup
from monitoring.periods import Period
from monitoring.totals import Totals, overall, totals

MOST_DAYS = 62
MOST_LETTERS = 50_000
TOP_REASONS = 20
LETTER_COLUMNS = ["created_at", "job_id", "task", "queue", "cause", "reason", "worker_name", "resolution"]


@dataclass(frozen=True)
class Activity:
    """A document to read, and the rows behind it to calculate with."""

    document: Document
    header: list[str]
    rows: list[list[Any]]


def monthly_summary(period: Period, user_id: str) -> Activity:
    """All jobs, per task and per day."""
    per_day = _per_day_and_task(period)
    header = ["day", "task", "submitted", "succeeded", "failed", "retried", "dead_lettered", "run_ms_sum"]
    rows = [[f"{day:%Y-%m-%d}", task, *count_cells(part), part.run_ms_sum] for (day, task), part in per_day.items()]
    return Activity(document("Job summary", period, user_id, per_day), header, rows)


def failures(period: Period, user_id: str) -> Activity:
    """What failed, why, and what became of it."""
    letters = DeadLetter.objects.filter(created_at__gte=period.start, created_at__lt=period.end)
    causes = letters.values_list("cause").annotate(count=Count("pk")).order_by("-count")
    reasons = letters.values_list("reason", "task").annotate(count=Count("pk")).order_by("-count")[:TOP_REASONS]
    tables = [
        Table("By cause", ["Cause", "Letters"], [[DeadLetter.Cause(cause).label, count] for cause, count in causes]),
        Table("Most frequent reasons", ["Reason", "Task", "Letters"], [[why[:300], *rest] for why, *rest in reasons]),
    ]
    rows = [[_plain(cell) for cell in row] for row in letters.values_list(*LETTER_COLUMNS)[:MOST_LETTERS]]
    return Activity(document("Failures", period, user_id, _per_day_and_task(period), tables), LETTER_COLUMNS, rows)


def document(
    title: str,
    period: Period,
    user_id: str,
    per_day: dict[tuple[datetime, str], Totals],
    tables: Iterable[Table] = (),
) -> Document:
    """Summary and tables per task, then `tables`, and the bars; from totals per day and task."""
    tasks = {task: overall(part for (_, name), part in per_day.items() if name == task) for _, task in sorted(per_day)}
    rows = [[task, *count_cells(part), *time_cells(part)[2:]] for task, part in sorted(tasks.items())]
    per_task = Table("Per task", ["Task", *COUNT_COLUMNS, *TIME_COLUMNS[2:]], rows)
    subtitle = f"{period}, for {user_id}"
    return Document(title, subtitle, [_summary(overall(tasks.values())), per_task, *tables], _bars(per_day))


def _per_day_and_task(period: Period) -> dict[tuple[datetime, str], Totals]:
    rollups = Rollup.objects.filter(minute__gte=period.start, minute__lt=period.end)
    return totals(rollups.annotate(day=TruncDay("minute")), "day", "task")


def _summary(total: Totals) -> Table:
    ended = total.succeeded + total.failed
    ratio = f"{total.failed / ended:.1%}" if ended else "–"
    mean = duration(total.run_ms_sum / total.started if total.started else None)
    named = [*zip(COUNT_COLUMNS, count_cells(total), strict=True), *zip(TIME_COLUMNS, time_cells(total), strict=True)]
    more = [["Failed, of those that ended", ratio], ["Mean run time", mean]]
    return Table("Summary", ["", "In this period"], [*([name, value] for name, value in named), *more])


def _bars(per_day: dict[tuple[datetime, str], Totals]) -> list[Bar]:
    """One per day; when that would be too many to read, one per month."""
    label = "%m-%d" if len({day for day, _ in per_day}) <= MOST_DAYS else "%Y-%m"
    names = list(dict.fromkeys(f"{day:{label}}" for day, _ in sorted(per_day)))
    sums = {name: overall(part for (day, _), part in per_day.items() if f"{day:{label}}" == name) for name in names}
    return [Bar(name, total.succeeded, total.failed) for name, total in sums.items()]


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else "" if value is None else str(value)
