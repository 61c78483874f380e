"""What a plan can be performed against: Switchyard (switchyard.py) and plain Celery with Redis (baseline.py)."""

import time
from collections.abc import Callable
from typing import Protocol

from tests.chaos.monkey.evidence import Evidence
from tests.chaos.monkey.plan import Order
from tests.chaos.monkey.stage import Stage

WORKER_SIZE = "4"
UNTIL_UP = 90.0


class System(Protocol):
    name: str
    queues: tuple[str, ...]
    stage: Stage

    def begin(self) -> None:
        """Make the crew and return when it is at work."""

    def submit(self, order: Order) -> str:
        """Submit one job and return its id; raises ConnectionError when it may be tried again."""

    def cancel(self, job: str) -> None: ...

    def finished(self) -> int: ...

    def unfinished(self, accepted: dict[str, str]) -> int: ...

    def look(self) -> None:
        """Take a sample of what may be wrong only for a while."""

    def evidence(self, accepted: dict[str, str]) -> Evidence: ...


def await_count(count: Callable[[], int], wanted: int) -> None:
    deadline = time.monotonic() + UNTIL_UP
    while (found := count()) < wanted:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{found} of {wanted} processes were up after {UNTIL_UP:g} s; see their logs")
        time.sleep(0.2)
