"""Sums of rollups over any time, queue or task."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Self

from django.db.models import QuerySet, Sum

from monitoring.histograms import BUCKETS, percentile
from monitoring.models import Rollup

HISTOGRAMS = ("wait_buckets", "run_buckets")


def _empty() -> list[int]:
    return [0] * BUCKETS


@dataclass(frozen=True)
class Totals:
    """What a Rollup row counts, added up."""

    submitted: int = 0
    started: int = 0
    succeeded: int = 0
    failed: int = 0
    retried: int = 0
    dead_lettered: int = 0
    revoked: int = 0
    deaths: int = 0
    released: int = 0
    fenced: int = 0
    republished: int = 0
    duplicates: int = 0
    wait_ms_sum: int = 0
    run_ms_sum: int = 0
    wait_buckets: list[int] = field(default_factory=_empty)
    run_buckets: list[int] = field(default_factory=_empty)

    def __add__(self, other: Self) -> "Totals":
        return Totals(**{each.name: _sum(getattr(self, each.name), getattr(other, each.name)) for each in fields(self)})

    def wait_ms(self, fraction: float) -> float | None:
        return percentile(self.wait_buckets, fraction)

    def run_ms(self, fraction: float) -> float | None:
        return percentile(self.run_buckets, fraction)


COUNTS = [each.name for each in fields(Totals) if each.name not in HISTOGRAMS]


def totals(rollups: QuerySet[Rollup], *by: str) -> dict[Any, Totals]:
    """Totals per value of `by`: a field of Rollup or an annotation; several make a tuple."""
    sums = {f"sum_{name}": Sum(name, default=0) for name in COUNTS}
    sums |= {f"{name}_{index}": Sum(f"{name}__{index}", default=0) for name in HISTOGRAMS for index in range(BUCKETS)}
    rows = rollups.order_by(*by).values(*by).annotate(**sums)
    return {_key(row, by): _totals(row) for row in rows}


def overall(parts: Iterable[Totals]) -> Totals:
    return sum(parts, start=Totals())


def _key(row: dict[str, Any], by: tuple[str, ...]) -> Any:
    values = tuple(row[name] for name in by)
    return values[0] if len(by) == 1 else values


def _totals(row: dict[str, Any]) -> Totals:
    values: dict[str, Any] = {name: row[f"sum_{name}"] for name in COUNTS}
    values |= {name: [row[f"{name}_{index}"] for index in range(BUCKETS)] for name in HISTOGRAMS}
    return Totals(**values)


def _sum(one: Any, other: Any) -> Any:
    return [a + b for a, b in zip(one, other, strict=True)] if isinstance(one, list) else one + other
