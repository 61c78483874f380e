"""A child that has done its share of tasks is followed at once.

Whether Celery's own look comes too early is decided by a millisecond; here every child lingers for 50 ms after
its pipe has closed, so that it always does.
"""

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
