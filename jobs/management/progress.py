"""How far a command has come: a bar on a terminal, a line now and then elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def progress(doing: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Yields what to call with the number done; written to stderr, so that stdout stays the answer."""
    if not sys.stderr.isatty():
        yield _Lines(doing, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar, _quiet():
        task = bar.add_task(doing, total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def _quiet() -> Iterator[None]:
    """Lines that say what the bar says would be written through it."""
    logger = logging.getLogger("jobs")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


class _Lines:
    def __init__(self, doing: str, total: int | None) -> None:
        self._doing = doing
        self._of = "" if total is None else f" of {total:,}"
        self._next = time.monotonic() + SECONDS_BETWEEN_LINES

    def __call__(self, done: int) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + SECONDS_BETWEEN_LINES
            print(f"{self._doing}: {done:,}{self._of}", file=sys.stderr, flush=True)
