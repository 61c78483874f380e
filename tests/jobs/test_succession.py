"""A child that has done its share of tasks is followed at once.

Whether Celery's own look comes too early is decided by a millisecond; here every child lingers for 50 ms after
its pipe has closed, so that it always does.
"""

import subprocess
import sys

import pytest

from tests.jobs.test_transport import READ, READY, Start, send, valkey, worker

__all__ = ["valkey", "worker"]
CHILDREN = 5


@pytest.fixture
def lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOCK_RECYCLED_AFTER", "1")
    monkeypatch.setenv("STOCK_LINGER", "0.05")


@pytest.mark.usefixtures("lingering")
def test_children_follow_each_other_without_waiting_for_celerys_timer(
    worker: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOCK_STEP", "jobs.succession:SuccessionStep")
    each = worker()
    each.start()
    each.says(READY)
    for _ in range(CHILDREN):
        send(each, "flaky")
    each.says(READ, times=CHILDREN, within=9)


# A parent that has read the last result when it is asked for the twentieth time; and how long billiard waits at most.
_ASKED = """
import sys, time
from types import SimpleNamespace
import billiard.pool as pool
from celery import Celery
from jobs.succession import SuccessionStep

class Counter:
    asked = 0
    @property
    def value(self):
        self.asked += 1
        return int(self.asked >= 20)

if sys.argv[1] == "ours":
    SuccessionStep(SimpleNamespace(steps=[]))
began = time.monotonic()
assert pool.Worker._ensure_messages_consumed(SimpleNamespace(on_ready_counter=Counter()), completed=1)
longest = pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_INTERVAL * pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT
print(time.monotonic() - began, longest)
"""


def waited(whose: str) -> tuple[float, float]:
    run = subprocess.run([sys.executable, "-c", _ASKED, whose], capture_output=True, text=True, timeout=60, check=True)
    seconds, longest = map(float, run.stdout.split())
    return seconds, longest


def test_a_child_that_is_done_ends_when_its_parent_has_read_its_last_result() -> None:
    """And still waits as long as billiard does. When billiard itself asks as often, ours can go."""
    (ours, longest), (billiards, its_longest) = waited("ours"), waited("billiard's")
    assert ours < billiards / 5
    assert longest == pytest.approx(its_longest)
