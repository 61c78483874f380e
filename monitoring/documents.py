"""What a report shows, before it becomes a page, a mail, a PDF or a CSV file."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from api import readfirst
from monitoring.totals import Totals

# A spreadsheet takes a cell that begins with one of these for a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
COUNT_COLUMNS = ["Submitted", "Succeeded", "Failed", "Retried", "Dead letters"]
TIME_COLUMNS = ["Wait p50", "Wait p95", "Run p50", "Run p95"]


@dataclass(frozen=True)
class Table:
    caption: str
    columns: list[str]
    rows: list[list[Any]]


@dataclass(frozen=True)
class Bar:
    """Jobs that ended on one day, or in one month."""

    label: str
    succeeded: int
    failed: int


@dataclass(frozen=True)
class Document:
    title: str
    subtitle: str
    tables: list[Table]
    bars: list[Bar] = field(default_factory=list)


def count_cells(totals: Totals) -> list[int]:
    return [totals.submitted, totals.succeeded, totals.failed, totals.retried, totals.dead_lettered]


def times_ms(totals: Totals) -> list[float | None]:
    return [totals.wait_ms(0.5), totals.wait_ms(0.95), totals.run_ms(0.5), totals.run_ms(0.95)]


def time_cells(totals: Totals) -> list[str]:
    return [duration(ms) for ms in times_ms(totals)]


def duration(ms: float | None) -> str:
    return "–" if ms is None else readfirst.duration(timedelta(milliseconds=ms))


def csv_file(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows([_harmless(cell) for cell in row] for row in rows)
    return text.getvalue().encode()


def _harmless(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell
