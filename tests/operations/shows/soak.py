"""Ten minutes (or `--seconds N`) at half the measured capacity: memory stays flat, the logs hold no error."""

import argparse
import re
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from statistics import median

import psutil

from tests.operations.shows import stage
from tests.waiting import eventually

WORKERS = ("worker",)
BURST = 1500
MAY_GROW = 1.10
TROUBLE = re.compile(r" (ERROR|CRITICAL) |Traceback")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="soak")
    parser.add_argument("--seconds", type=int, default=600)
    seconds = parser.parse_args(arguments).seconds
    # With DEBUG on Django remembers its latest 9,000 queries, which looks like a leak for hours.
    with stage.fleet(DEBUG="0", ALLOWED_HOSTS="127.0.0.1") as fleet:
        fleet.dispatcher()
        for name in WORKERS:
            fleet.worker(name, size=2)
        fleet.beat()
        fleet.start("watch", ["manage.py", "watch", "--name", "watch@test"], row="watch@test")
        fleet.web()
        capacity = measured()
        stage.say(f"capacity {capacity:.0f} jobs a second; {capacity / 2:.0f} a second for {seconds} s")
        memory = under_load(fleet, capacity / 2, seconds)
        # On a machine that others slow down meanwhile a backlog may have grown.
        eventually(lambda: stage.unfinished() == 0, within=max(120, seconds), what="all jobs to end")
        print("\n| process | first tenth of the time, MiB | last tenth, MiB | growth |\n|---|---|---|---|")
        grown = [row(name, readings) for name, readings in memory.items()]
        print()
        wrong = [line for name in fleet.processes for line in fleet.log(name).splitlines() if TROUBLE.search(line)]
        for line in wrong[:10]:
            stage.say(f"in a log: {line[:200]}")
        states = {each: stage.Job.objects.filter(state=each).count() for each in ("SUCCESS", "FAILURE", "REVOKED")}
        stage.say(f"{sum(states.values()):,} jobs: {states}")
        stage.verdict(
            memory_is_flat=max(grown) <= MAY_GROW,
            no_error_in_the_logs=not wrong,
            nothing_failed=not states["FAILURE"],
        )


def measured() -> float:
    began = time.monotonic()
    stage.submit(BURST, "flaky", {"failures": 0})
    eventually(lambda: stage.unfinished() == 0, within=300, what="the burst to end")
    return BURST / (time.monotonic() - began)


def under_load(fleet: stage.Fleet, rate: float, seconds: int) -> dict[str, list[int]]:
    """Memory of every process, once a second."""
    memory: dict[str, list[int]] = defaultdict(list)
    began, sent = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        due = int(rate * passed) - sent
        if due > 0:
            stage.submit(due, "flaky", {"failures": 0})
            sent += due
        if int(passed) // 60 > int(passed - 1) // 60:
            stage.say(f"{sent:,} jobs sent, {stage.unfinished():,} unfinished")
        for name, used in resident(fleet).items():
            memory[name].append(used)
        time.sleep(max(0.0, 1 - (time.monotonic() - began - passed)))
    return memory


def resident(fleet: stage.Fleet) -> dict[str, int]:
    """Resident bytes of every process; those of a worker's children as a sum, because they are replaced."""
    parents = {name: memory_of([process.pid]) for name, process in fleet.processes.items()}
    return parents | {f"{name}'s children": memory_of(fleet.children(name)) for name in WORKERS}


def memory_of(pids: Iterable[int]) -> int:
    total = 0
    for pid in pids:
        # A child may be replaced while it is looked at.
        with suppress(psutil.NoSuchProcess):
            total += psutil.Process(pid).memory_info().rss
    return total


def row(name: str, readings: list[int]) -> float:
    """Print a line of the table; how many times the first memory the last is."""
    part = len(readings) // 10 or 1
    first, last = median(readings[:part]), median(readings[-part:])
    print(f"| {name} | {first / 2**20:.1f} | {last / 2**20:.1f} | {100 * (last / first - 1):+.1f} % |")
    return last / first
