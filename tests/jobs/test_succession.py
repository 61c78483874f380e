"""A child that has done its share of tasks is followed at once by ours, and late by Celery's own pool."""

import time

import pytest

from tests.jobs.test_transport import READ, READY, Start, send, valkey, worker

__all__ = ["valkey", "worker"]
TASKS = 5


def seconds(worker: Start) -> float:
    """How long a worker whose children run one task each takes for a few tasks."""
    each = worker()
    each.start()
    each.says(READY)
    began = time.monotonic()
    for _ in range(TASKS):
        send(each, "flaky")
    each.says(READ, times=TASKS)
    each.stop()
    return time.monotonic() - began


def test_celery_still_leaves_a_worker_without_its_child_for_seconds_and_ours_does_not(
    worker: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When this fails because Celery is as quick, jobs.succession can go."""
    monkeypatch.setenv("STOCK_RECYCLED_AFTER", "1")
    alone = seconds(worker)
    monkeypatch.setenv("STOCK_STEP", "jobs.succession:SuccessionStep")
    assert 3 * seconds(worker) < alone
