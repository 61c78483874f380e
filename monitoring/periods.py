"""The stretches of time a report can be about; all in UTC, from `start` up to and without `end`."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

LONGEST_DAYS = 366
RELATIVE = {
    "last_24_hours": timedelta(hours=24),
    "last_7_days": timedelta(days=7),
    "last_30_days": timedelta(days=30),
}
COMPLETE = {"hourly": timedelta(hours=1), "daily": timedelta(days=1)}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Period:
    start: datetime
    end: datetime

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M} UTC"


def last_complete(kind: str, before: datetime) -> Period:
    """The last whole hour or day that was over at `before`."""
    length = COMPLETE[kind]
    end = EPOCH + (before - EPOCH) // length * length
    return Period(end - length, end)


def parse_range(text: str, now: datetime) -> Period:
    """The period of `last_30_days` or of `2026-01-01/2026-01-31`, both days included; raises ValueError."""
    if text in RELATIVE:
        return Period(now - RELATIVE[text], now)
    first, last = _days(text)
    if first > last:
        raise ValueError(f"{text!r} ends before it starts")
    if (last - first).days >= LONGEST_DAYS:
        raise ValueError(f"{text!r} is longer than {LONGEST_DAYS} days")
    return Period(_midnight(first), _midnight(last) + timedelta(days=1))


def check_range(text: str) -> str:
    """For pydantic: refuse when the job is submitted what `parse_range` would refuse when it runs."""
    parse_range(text, datetime.now(UTC))
    return text


def _days(text: str) -> tuple[date, date]:
    try:
        first, last = (datetime.strptime(part, "%Y-%m-%d").date() for part in text.split("/"))
    except ValueError:
        known = ", ".join(RELATIVE)
        raise ValueError(f"{text!r} is neither one of {known} nor like 2026-01-01/2026-01-31") from None
    return first, last


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)
