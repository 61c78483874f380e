"""Ten minutes (or `--seconds N`) at half the measured capacity: memory stays flat, the logs hold no error."""

import argparse
import re
import time
from statistics import median

import psutil

from tests.operations.shows import stage
from tests.waiting import eventually

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
        fleet.worker("w", size=2)
        fleet.beat()
        fleet.start("watch", ["manage.py", "watch", "--name", "watch@test"], row="watch@test")
        fleet.web()
        capacity = measured()
        stage.say(f"capacity {capacity:.0f} jobs a second; {capacity / 2:.0f} a second for {seconds} s")
        memory = under_load(fleet, capacity / 2, seconds)
        # On a machine that others slow down meanwhile a backlog may have grown.
        eventually(lambda: stage.unfinished() == 0, within=max(120, seconds), what="all jobs to end")
        grown = {}
        for name, readings in memory.items():
            first, last = median(readings[: len(readings) // 10 or 1]), median(readings[-(len(readings) // 10 or 1) :])
            grown[name] = last / first
            stage.say(
                f"{name:<12} {first / 2**20:6.1f} MiB at first, {last / 2**20:6.1f} MiB at last, {last / first:.2f}"
            )
        wrong = [line for name in fleet.processes for line in fleet.log(name).splitlines() if TROUBLE.search(line)]
        for line in wrong[:10]:
            stage.say(f"in a log: {line[:200]}")
        states = {each: stage.Job.objects.filter(state=each).count() for each in ("SUCCESS", "FAILURE", "REVOKED")}
        stage.say(f"{sum(states.values()):,} jobs: {states}")
        stage.verdict(
            memory_is_flat=max(grown.values()) <= MAY_GROW,
            no_error_in_the_logs=not wrong,
            nothing_failed=not states["FAILURE"],
        )


def measured() -> float:
    began = time.monotonic()
    stage.submit(BURST, "flaky", {"failures": 0})
    eventually(lambda: stage.unfinished() == 0, within=300, what="the burst to end")
    return BURST / (time.monotonic() - began)


def under_load(fleet: stage.Fleet, rate: float, seconds: int) -> dict[str, list[int]]:
    """Resident memory of every process, once a second; a worker's is that of its parent."""
    memory: dict[str, list[int]] = {name: [] for name in fleet.processes}
    began, sent = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        due = int(rate * passed) - sent
        if due > 0:
            stage.submit(due, "flaky", {"failures": 0})
            sent += due
        if int(passed) // 60 > int(passed - 1) // 60:
            stage.say(f"{sent:,} jobs sent, {stage.unfinished():,} unfinished")
        for name, process in fleet.processes.items():
            memory[name].append(psutil.Process(process.pid).memory_info().rss)
        time.sleep(max(0.0, 1 - (time.monotonic() - began - passed)))
    return memory
