"""`--sustained`: 12,000 jobs a minute for five minutes on four worker processes, one in twenty failing once.

Both deliveries get half of the jobs. The question is not how fast, but whether the queue stays flat.
"""

import statistics
import sys
import time
from collections.abc import Iterator

from benchmarks.race import Place, at_work, drive
from benchmarks.systems import SUSTAINED

RATE = 200.0
EDGE_SECONDS = 30


def sustained(place: Place, *, minutes: float) -> str:
    """A table; raises RuntimeError when a job is lost. Depth is what was due and waiting, asked every second."""
    drive(SUSTAINED, place, "prepare")
    with at_work(SUSTAINED, place):
        # So that what is measured is a running system, not the start of one.
        time.sleep(10)
        depths, waits, counted = _ask(drive(SUSTAINED, place, "steady", round(60 * minutes)))
    edge = min(EDGE_SECONDS, len(depths) // 2)
    if counted["final"] < counted["submitted"]:
        raise RuntimeError(f"{counted['submitted'] - counted['final']:.0f} jobs are not final")
    first, last = statistics.mean(depths[:edge]), statistics.mean(depths[-edge:])
    rows = [
        ("jobs a minute, over", f"{counted['submitted'] / minutes:,.0f}, {minutes:g} minutes"),
        ("final, failed once before", f"{counted['final']:,.0f}, {counted['retried']:,.0f}"),
        (f"mean depth, first and last {edge} s", f"{first:.1f}, {last:.1f}"),
        ("largest depth", f"{max(depths)}"),
        ("wait p50, p95, p99, ms", ", ".join(f"{each:.0f}" for each in waits)),
    ]
    return "\n".join(["| 4 worker processes | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def pace(seconds: int) -> Iterator[int]:
    """The numbers of the jobs to submit, each when it is due; behind time, at once."""
    began = time.monotonic()
    for number in range(round(RATE * seconds)):
        ahead = began + number / RATE - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
        yield number
        if number % round(RATE * 30) == 0:
            print(f"{number / RATE:.0f} s", file=sys.stderr)


def _ask(printed: str) -> tuple[list[int], list[float], dict[str, float]]:
    depths, waits, counted = printed.split(";")
    names = ("submitted", "final", "retried")
    return (
        [int(each) for each in depths.split()],
        [float(each) for each in waits.split()],
        dict(zip(names, map(float, counted.split()), strict=True)),
    )
