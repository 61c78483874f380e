"""A child that has done its share of tasks is followed at once.

Whether Celery's own look comes too early is decided by a millisecond, so its delay cannot be called up at will: on
an idle machine most of a dozen successions take it one to five seconds, half a minute together.
"""

import pytest

from tests.jobs.test_transport import READ, READY, Start, send, valkey, worker

__all__ = ["valkey", "worker"]
TASKS = 12


def test_a_dozen_children_follow_each_other_without_waiting_for_celerys_timer(
    worker: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOCK_RECYCLED_AFTER", "1")
    monkeypatch.setenv("STOCK_STEP", "jobs.succession:SuccessionStep")
    each = worker()
    each.start()
    each.says(READY)
    for _ in range(TASKS):
        send(each, "flaky")
    each.says(READ, times=TASKS, within=18)
