"""Medians of the rounds, as a table for the terminal and for docs/benchmarks.md."""

import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path

from benchmarks.race import Result
from benchmarks.systems import PLAIN, System

HEAD = (
    "| system | keeps | submit/s | x | bulk/s | x | processing/s [min-max] | x | p50 ms | p95 ms | worker MiB |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)


def table(results: Mapping[System, Sequence[Result]]) -> str:
    """One line a system; x is the ratio to plain Celery's median of the same run (bulk: to its `.delay()` loop)."""
    yardstick = medians(results[PLAIN])
    return "\n".join([HEAD, *(_line(system, rounds, yardstick) for system, rounds in results.items())])


def medians(rounds: Sequence[Result]) -> Result:
    columns = {}
    for field in fields(Result):
        values = [value for each in rounds if (value := getattr(each, field.name)) is not None]
        columns[field.name] = statistics.median(values) if values else None
    return Result(**columns)


def machine() -> str:
    model = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    memory = int(Path("/proc/meminfo").read_text().split()[1]) // 1024**2
    cores = Path("/proc/cpuinfo").read_text().count("model name")
    return f"{cores} x {model.partition(':')[2].strip()}, {memory} GiB, Python {platform.python_version()}"


def versions() -> str:
    names = ("celery", "kombu", "django", "psycopg", "redis")
    return ", ".join(f"{name} {version(name)}" for name in names)


def _line(system: System, rounds: Sequence[Result], yardstick: Result) -> str:
    mid, rates = medians(rounds), [each.process for each in rounds if each.process]
    spread = f"{_number(mid.process)} [{_number(min(rates))}-{_number(max(rates))}]" if rates else "-"
    cells = [
        system.name,
        system.promise,
        _number(mid.submit),
        _ratio(mid.submit, yardstick.submit),
        _number(mid.bulk),
        _ratio(mid.bulk, yardstick.submit),
        spread,
        _ratio(mid.process, yardstick.process),
        _number(mid.p50, 1),
        _number(mid.p95, 1),
        _number(mid.rss),
    ]
    return f"| {' | '.join(cells)} |"


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _ratio(value: float | None, to: float | None) -> str:
    return "-" if value is None or not to else f"{value / to:.2f}"
