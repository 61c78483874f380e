"""`--growth`: the same measurements beside an empty table and beside ten million finished jobs."""

import subprocess

from benchmarks.race import ROOT, Place, Result, measure
from benchmarks.report import medians
from benchmarks.systems import System

HEAD = "| system | finished rows | submit/s | bulk/s | processing/s | p50 ms | p95 ms |\n|---|---|---|---|---|---|---|"


def growth(systems: list[System], place: Place, *, rows: int, rounds: int) -> str:
    """Two lines a system, and the ratio of the second to the first."""
    before = {each: _median(each, place, rounds) for each in systems}
    _seed(place, rows)
    after = {each: _median(each, place, rounds) for each in systems}
    lines = []
    for each in systems:
        lines += [_line(each.name, "0", before[each]), _line(each.name, f"{rows:,}", after[each])]
        lines.append(_line("ratio", "", _ratio(after[each], before[each]), digits=2))
    return "\n".join([HEAD, *lines])


def _median(system: System, place: Place, rounds: int) -> Result:
    return medians([measure(system, place) for _ in range(rounds)])


def _seed(place: Place, rows: int) -> None:
    command = [str(place.own_python), "manage.py", "seed_history", "--rows", str(rows), "--skip-checks"]
    subprocess.run(command, cwd=ROOT, env=place.environment, check=True)


def _ratio(late: Result, early: Result) -> Result:
    pairs = ((name, getattr(late, name), getattr(early, name)) for name in ("submit", "bulk", "process", "p50", "p95"))
    return Result(**{name: one / other for name, one, other in pairs if one and other})


def _line(name: str, rows: str, found: Result, *, digits: int = 0) -> str:
    speeds = [found.submit, found.bulk, found.process]
    cells = ["-" if value is None else f"{value:,.{digits}f}" for value in speeds]
    cells += ["-" if value is None else f"{value:.2f}" for value in (found.p50, found.p95)]
    return f"| {name} | {rows} | {' | '.join(cells)} |"
