"""`--growth`: the same measurements beside an empty table and beside ten million finished jobs.

On two servers, in turns, so that what the machine does meanwhile falls on both; a ratio is the median of those of
the pairs, whose halves were measured one right after the other.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from benchmarks.race import ROOT, SETTINGS, Place, Result, drive, measure, submission
from benchmarks.report import medians
from benchmarks.systems import System
from local.postgres import Postgres
from local.readiness import free_port

HEAD = "| system | finished rows | submit/s | bulk/s | processing/s | p50 ms | p95 ms |\n|---|---|---|---|---|---|---|"
# Submitting takes seconds, in which an uneven machine may be half as fast as in the next ones.
PAIRS_OF_SUBMISSIONS = 7
BULK = 30_000
COLUMNS = ("submit", "bulk", "process", "p50", "p95")
Found = dict[tuple[str, bool], list[Result]]


def growth(systems: list[System], empty: Place, *, rows: int, rounds: int) -> str:
    """Two lines a system, and the ratio of the second to the first."""
    found: Found = {}
    with _filled(systems[0], empty, rows) as full:
        for number in range(rounds):
            for each in systems:
                for place in _in_turn(number, empty, full):
                    found.setdefault((each.name, place is full), []).append(measure(each, place))
        for each in systems:
            _submit(each, empty, full, found)
    return "\n".join([HEAD, *(line for each in systems for line in _lines(each, rows, found))])


def _submit(system: System, empty: Place, full: Place, found: Found) -> None:
    """More pairs of submissions alone; the jobs stay where they are."""
    for place in (empty, full):
        drive(system, place, "prepare")
    for number in range(PAIRS_OF_SUBMISSIONS):
        for place in _in_turn(number, empty, full):
            found.setdefault((system.name, place is full), []).append(submission(system, place, bulk=BULK))


def _in_turn(number: int, empty: Place, full: Place) -> tuple[Place, Place]:
    return (full, empty) if number % 2 else (empty, full)


@contextmanager
def _filled(system: System, empty: Place, rows: int) -> Iterator[Place]:
    """The same place with another PostgreSQL, where jobs have been running for long."""
    directory = empty.directory / "postgres-with-history"
    with Postgres(directory, port=free_port(), settings=SETTINGS) as postgres:
        addresses = {"DATABASE_URL": postgres.url, "PGDSN": postgres.url}
        full = replace(empty, environment=empty.environment | addresses)
        drive(system, full, "prepare")
        command = [str(full.own_python), "manage.py", "seed_history", "--rows", str(rows), "--skip-checks"]
        subprocess.run(command, cwd=ROOT, env=full.environment, check=True)
        yield full


def _lines(system: System, rows: int, found: Found) -> Iterator[str]:
    early, late = (found[system.name, is_full] for is_full in (False, True))
    yield _line(system.name, "0", medians(early))
    yield _line(system.name, f"{rows:,}", medians(late))
    yield _line("ratio", "", medians([_ratio(*pair) for pair in zip(late, early, strict=True)]), digits=2)


def _ratio(late: Result, early: Result) -> Result:
    pairs = ((name, getattr(late, name), getattr(early, name)) for name in COLUMNS)
    return Result(**{name: one / other for name, one, other in pairs if one and other})


def _line(name: str, rows: str, found: Result, *, digits: int = 0) -> str:
    speeds = [found.submit, found.bulk, found.process]
    cells = ["-" if value is None else f"{value:,.{digits}f}" for value in speeds]
    cells += ["-" if value is None else f"{value:.2f}" for value in (found.p50, found.p95)]
    return f"| {name} | {rows} | {' | '.join(cells)} |"
