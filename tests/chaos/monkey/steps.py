"""What scripted scenarios are written in: wait for a condition, compare a figure with what it must be."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """A figure of a scenario and what it must be."""

    what: str
    found: Any
    wanted: Any
    at_most: bool = False
    at_least: bool = False

    @property
    def holds(self) -> bool:
        if self.at_most:
            return bool(self.found <= self.wanted)
        return bool(self.found >= self.wanted) if self.at_least else bool(self.found == self.wanted)

    def __str__(self) -> str:
        limit = "at most " if self.at_most else "at least " if self.at_least else ""
        verdict = "holds " if self.holds else "BROKEN"
        return f"  {verdict}  {self.what}: {self.found} (wanted {limit}{self.wanted})"


def until(condition: Callable[[], bool], *, within: float, meanwhile: Callable[[], None] = lambda: None) -> bool:
    """Whether the condition came true in time; a check afterwards tells of it when it did not."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        meanwhile()
        time.sleep(0.1)
    return True
