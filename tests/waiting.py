"""Waiting for conditions, never for time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], *, within: float, what: str = "") -> T:
    """The first true value of `condition`; fails after `within` seconds, saying what was waited for."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within} s in vain for {what or condition}; last value {value!r}")
        time.sleep(0.02)
