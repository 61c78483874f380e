"""The command line every system's module answers to: prepare, submit N, bulk N, latency N."""

import random
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks import marks

TEXT = "x" * 70


def payload(number: int, at: float = 0.0) -> dict[str, object]:
    """About a hundred bytes."""
    return {"number": number, "text": TEXT, "at": at}


def drive(
    *,
    prepare: Callable[[], object],
    submit: Callable[[dict[str, object]], object],
    bulk: Callable[[Iterable[dict[str, object]]], object] | None = None,
) -> None:
    """Do what the command line says and print the seconds it took (or nothing when the system cannot)."""
    verb, number = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
    if verb == "prepare":
        prepare()
    elif verb == "submit":
        submit(payload(0))
        _timed(lambda: [submit(payload(n)) for n in range(number - 1)])
    elif verb == "bulk" and bulk is not None:
        _timed(lambda: bulk(payload(n) for n in range(number)))
    elif verb == "latency":
        _latency(submit, number)


def _timed(work: Callable[[], object]) -> None:
    began = time.perf_counter()
    work()
    print(time.perf_counter() - began)


def _latency(submit: Callable[[dict[str, object]], object], number: int) -> None:
    """One job at a time on an idle system, at moments no poll interval can be in step with."""
    marks_directory = Path(marks.DIRECTORY)
    for done in range(number):
        submit(payload(done, time.time()))
        deadline = time.monotonic() + 10
        while marks.seen(marks_directory).jobs <= done and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(random.uniform(0.02, 0.12))
