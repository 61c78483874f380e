"""Open letters by what went wrong: how many, since when, how they come in, and what is being done about them."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count
from django.db.models.functions import TruncHour
from django.utils import timezone

from deadletters.grouping import groups
from deadletters.models import DeadLetter, ReplayOperation

HOURS = 24
HOUR = timedelta(hours=1)
BAR_WIDTH, BAR_HEIGHT = 6, 28
GOING = (ReplayOperation.State.RUNNING, ReplayOperation.State.PAUSED)


@dataclass(frozen=True)
class Bar:
    """A bar of an SVG, one per hour."""

    x: float
    y: float
    height: float
    is_zero: bool


@dataclass(frozen=True)
class Group:
    fingerprint: str
    count: int
    first: datetime
    last: datetime
    sample: DeadLetter
    hours: list[int]
    operation: ReplayOperation | None
    replays: int

    @property
    def kind(self) -> str:
        """The class of the error, or the cause where there was none."""
        name, colon, _ = self.sample.reason.partition(":")
        is_class = bool(colon) and name.replace(".", "").replace("_", "").isalnum() and " " not in name
        return name.rpartition(".")[-1] if is_class else self.sample.get_cause_display()

    @property
    def message(self) -> str:
        first_line = self.sample.reason.splitlines()[0] if self.sample.reason else ""
        name, colon, rest = first_line.partition(":")
        return rest.strip() if colon and name.rpartition(".")[-1] == self.kind else first_line

    @property
    def bars(self) -> list[Bar]:
        top = max([*self.hours, 1])
        return [_bar(index, number / top) for index, number in enumerate(self.hours)]


def open_groups(*, limit: int, task: str | None = None, queue: str | None = None) -> list[Group]:
    """The biggest groups of open letters."""
    found = groups(DeadLetter.objects.open().matching(task=task, queue=queue), limit)
    return _with_history(found)


def group(fingerprint: str) -> Group | None:
    """One group, while any letter of it is open."""
    found = _with_history(groups(DeadLetter.objects.open().matching(fingerprint=fingerprint), 1))
    return found[0] if found else None


def operations_of(fingerprint: str) -> list[ReplayOperation]:
    """Replays of this group, the latest first."""
    return list(ReplayOperation.objects.filter(filter__fingerprint=fingerprint)[:10])


def _with_history(found: list[dict[str, Any]]) -> list[Group]:
    prints = [each["fingerprint"] for each in found]
    hours, replays = _hours(prints), _operations(prints)
    return [
        Group(
            **{name: each[name] for name in ("fingerprint", "count", "first", "last", "sample")},
            hours=hours[each["fingerprint"]],
            operation=next((one for one in replays[each["fingerprint"]] if one.state in GOING), None),
            replays=len(replays[each["fingerprint"]]),
        )
        for each in found
    ]


def _hours(prints: list[str]) -> dict[str, list[int]]:
    """Letters per hour of the last day, those since resolved included only while they are open."""
    now = timezone.now().replace(minute=0, second=0, microsecond=0)
    first = now - (HOURS - 1) * HOUR
    letters = DeadLetter.objects.open().filter(fingerprint__in=prints, created_at__gte=first).order_by()
    found = {each: [0] * HOURS for each in prints}
    counted = letters.annotate(hour=TruncHour("created_at")).values_list("fingerprint", "hour").annotate(Count("pk"))
    for fingerprint, hour, count in counted:
        found[fingerprint][(hour - first) // HOUR] = count
    return found


def _operations(prints: list[str]) -> defaultdict[str, list[ReplayOperation]]:
    found: defaultdict[str, list[ReplayOperation]] = defaultdict(list)
    for operation in ReplayOperation.objects.filter(filter__fingerprint__in=prints):
        found[operation.filter["fingerprint"]].append(operation)
    return found


def _bar(index: int, share: float) -> Bar:
    height = max(1.0, round(share * BAR_HEIGHT, 1))
    return Bar(index * BAR_WIDTH, BAR_HEIGHT - height, height, share == 0)
