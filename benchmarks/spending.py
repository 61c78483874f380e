"""`--profile`: where the time goes, as processor time a job of every process that takes part."""

import time

import psutil

from benchmarks import marks
from benchmarks.race import Place, at_work, drive
from benchmarks.systems import System

HEAD = (
    "| system | jobs/s | parents | children | PostgreSQL | Redis | together, us a job |\n|---|---|---|---|---|---|---|"
)


def spending(system: System, place: Place) -> str:
    """One line: microseconds a job between a fifth and nine tenths of a run, when nothing starts or ends."""
    drive(system, place, "prepare")
    drive(system, place, "bulk" if system.has_bulk else "submit", system.jobs)
    with at_work(system, place) as running:
        begun = _after(system.jobs // 5, place)
        before, since = _spent(running), time.monotonic()
        ended = _after(system.jobs * 9 // 10, place)
        after, seconds = _spent(running), time.monotonic() - since
    jobs = ended - begun
    costs = [round(1e6 * (late - early) / jobs) for early, late in zip(before, after, strict=True)]
    return f"| {system.name} | {jobs / seconds:,.0f} | {' | '.join(map(str, costs))} | {sum(costs)} |"


def _after(jobs: int, place: Place) -> int:
    while (seen := marks.seen(place.marks).jobs) < jobs:
        time.sleep(0.02)
    return seen


def _spent(running: list[psutil.Process]) -> tuple[float, float, float, float]:
    """Seconds of parents, their children, PostgreSQL and Redis; what has ended meanwhile is in its parent's account."""
    mine = psutil.Process().children(recursive=True)
    children = [child for parent in running for child in parent.children(recursive=True)]
    servers = [process for process in mine if process not in running and process not in children]
    postgres = [process for process in servers if "postgres" in process.name()]
    others = [each for each in servers if each not in postgres]
    return _sum(running), _sum(children) + _ended(running), _sum(postgres) + _ended(postgres), _sum(others)


def _ended(parents: list[psutil.Process]) -> float:
    return sum(spent.children_user + spent.children_system for spent in (each.cpu_times() for each in parents))


def _sum(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        try:
            spent = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += spent.user + spent.system
    return total


def table(systems: list[System], place: Place) -> str:
    return "\n".join([HEAD, *(spending(each, place) for each in systems)])
