"""A task's rate is kept by the dispatcher over all workers; no ticket waits in a worker's hands."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from django.db.models import Max, Min

from jobs import dispatch
from jobs.models import Job, Pace
from jobs.submission import submit
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ten_a_second(tmp_path: Path, settings: Any) -> None:
    text = settings.POLICIES_FILE.read_text().replace("[flaky]", '[flaky]\nrate = "10/s"')
    settings.POLICIES_FILE = tmp_path / "policies.toml"
    settings.POLICIES_FILE.write_text(text)
    settings.DISPATCH_SECONDS = 0.2


def issued() -> int:
    return Job.objects.exclude(dispatched_at=None).count()


def test_tickets_of_a_task_with_a_rate_come_evenly(ten_a_second: None, broker: redis.Redis) -> None:
    for _ in range(30):
        submit("flaky", {"failures": 0})
    other = submit("always_fails")
    assert issued() == 1
    assert other.dispatched_at is not None

    def all_are_out() -> bool:
        dispatch.issue()
        dispatch.issue_paced()
        return issued() == 31

    eventually(all_are_out, within=30)
    times = Job.objects.filter(task="flaky").aggregate(first=Min("dispatched_at"), last=Max("dispatched_at"))
    assert times["last"] - times["first"] >= timedelta(seconds=29 / 10 - 0.2 - 0.1)
    assert broker.llen("default") == 31


def test_unused_time_is_not_saved_up(ten_a_second: None, broker: redis.Redis) -> None:
    submit("flaky", {"failures": 0})
    dispatch.issue_paced()
    Pace.objects.update(next_at="2020-01-01T00:00:00Z")
    for _ in range(30):
        submit("flaky", {"failures": 0})
    dispatch.issue_paced()
    assert issued() <= 1 + 3


def test_a_paused_queue_spends_none_of_the_rate(ten_a_second: None, broker: redis.Redis) -> None:
    from jobs.pausing import pause, resume

    submit("flaky", {"failures": 0})
    pause("default", actor="t", reason="r")
    assert dispatch.issue_paced() == 0
    resume("default", actor="t")
    assert dispatch.issue_paced() == 1
