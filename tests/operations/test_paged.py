"""The built-in notifier over a real queue with real, slow consumers; only the clock is made to run faster.

At full length and speed: `python -m tests.operations.shows paged`.
"""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connections

from jobs.bulk import submit_many
from jobs.drafting import draft
from jobs.models import Job
from monitoring import watching
from monitoring.watching import Watch
from tests.fleet import Fleet
from tests.operations.hooks import Hook, hook
from tests.waiting import eventually

STEADY, MANY, GROWING_SECONDS = 50, 30_000, 150
# The page may take three minutes of this clock, which must be long enough for a slow machine's looks.
IN_CALM, IN_GROWTH = 20.0, 5.0
ALERT = "FIRING QueueGrowing"


class Clock:
    """Seconds as the watch counts them, `rate` to each of the wall."""

    def __init__(self, rate: float) -> None:
        self.rate, self._began, self._before = rate, time.monotonic(), 0.0

    def __call__(self) -> float:
        return self._before + (time.monotonic() - self._began) * self.rate

    def run_at(self, rate: float) -> None:
        self.rate, self._began, self._before = rate, time.monotonic(), self()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    faster = Clock(IN_CALM)
    monkeypatch.setattr(watching, "time", SimpleNamespace(monotonic=faster))
    return faster


@pytest.fixture
def ears(settings: Any) -> Iterator[Hook]:
    with hook() as server:
        settings.WATCH_WEBHOOK_URL = server.url
        yield server


@pytest.fixture
def watch(ears: Hook) -> Iterator[Watch]:
    watching = Watch()
    yield watching
    # The thread that collects has a connection of its own.
    watching._thread.submit(connections.close_all).result()


def submit(count: int) -> None:
    submit_many([draft("slow", {"seconds": 0.5}) for _ in range(count)])


def test_a_page_comes_within_three_minutes_of_a_queue_that_grows_from_50_to_30_000(
    fleet: Fleet, clock: Clock, ears: Hook, watch: Watch
) -> None:
    fleet.dispatcher()
    fleet.worker(size=2)
    calm = clock() + 150
    while clock() < calm:
        submit(max(0, STEADY - Job.objects.unfinished().count()))
        watch.look()
    assert ears.told(ALERT) is None

    clock.run_at(IN_GROWTH)
    changed, sent = clock(), 0

    def told() -> float | None:
        nonlocal sent
        due = min(MANY, int((clock() - changed) * MANY / GROWING_SECONDS)) - sent
        submit(due)
        sent += due
        watch.look()
        return ears.told(ALERT)

    eventually(told, within=120, what="the page")
    assert clock() - changed <= 180
    assert " jobs wait on default, " in next(text for text in ears.texts if text.startswith(ALERT))
