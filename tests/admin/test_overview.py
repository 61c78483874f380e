"""The overview's numbers, over rows whose numbers are known."""

import re
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from deadletters.models import DeadLetter
from jobs.models import Job, Queue
from monitoring import charts, lookout, rollups
from monitoring.histograms import BOUNDS_MS, BUCKETS
from monitoring.models import Rollup, RollupProgress
from tests.admin.acting import part_of
from tests.browser.failed import make_failed
from tests.making import make_worker
from tests.monitoring.making import make_attempt, make_finished


@pytest.fixture(autouse=True)
def _looks_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout.lookout, "_looked", float("-inf"))
    charts._answers.clear()


def bucket(below_ms: int, count: int) -> list[int]:
    """A histogram of durations that all lie in the bucket that ends at this bound."""
    return [count if index == BOUNDS_MS.index(below_ms) else 0 for index in range(BUCKETS)]


def rolled_up(minute: datetime, queue: str = "high", task: str = "flaky", **counts: Any) -> None:
    rows = {"wait_buckets": [0] * BUCKETS, "run_buckets": [0] * BUCKETS} | counts
    Rollup.objects.create(minute=rollups.floor_minute(minute), queue=queue, task=task, **rows)


def drawn(client: Client, span: str) -> dict[str, Any]:
    return client.get(f"/admin/charts.json?range={span}").json()


def test_a_card_says_rate_failures_waits_and_runs_of_the_last_hour(boss: Client) -> None:
    now = timezone.now()
    RollupProgress.objects.create(frozen_until=now, built_until=now)
    counts = {"succeeded": 1140, "failed": 60, "wait_buckets": bucket(100, 1200), "run_buckets": bucket(30_000, 1200)}
    rolled_up(now - timedelta(minutes=20), **counts)
    rolled_up(now - timedelta(minutes=90), succeeded=5, failed=5000, wait_buckets=bucket(3_600_000, 5000))
    card = part_of(boss.get("/admin/"), '<article class="card queue is-retry" data-queue="high">', "</article>")
    # 95 % into the buckets from 50 to 100 ms and from 10 to 30 s.
    assert card.split("running 0 ")[1].startswith("per minute 20 failed 5.0% p95 wait 98 ms p95 run 29 s")
    status = part_of(boss.get("/admin/"), '<div id="status" data-live="5">', "</div>")
    assert "1,200 jobs finished in the last hour, 5.0% failed" in status.replace("1,200 job s", "1,200 jobs")


def test_recent_failures_are_grouped_with_names_and_counts(boss: Client) -> None:
    make_failed(12, "billing.errors.CardDeclined: no funds", "c3")
    make_failed(3, "ReadTimeout: no answer", "a1", task="slow")
    failing = part_of(boss.get("/admin/"), '<ul class="rows">', "</ul>")
    assert failing == "12 CardDeclined flaky in default 3 ReadTimeout slow in default"


def test_each_worker_says_when_it_beat_how_busy_it_is_and_with_what(boss: Client) -> None:
    now = timezone.now()
    beat = now - timedelta(seconds=20)
    worker = make_worker(id=uuid4(), name="w1@here", concurrency=4, queues=["high"], heartbeat_at=beat)
    make_worker(id=uuid4(), name="w2@here", concurrency=2, queues=["low"])
    for minutes, task in ((7, "flaky"), (200, "slow")):
        began = now - timedelta(minutes=minutes)
        held = {"worker_id": worker.pk, "claim_token": uuid4(), "started_at": began, "run_at": began}
        Job.objects.create(task=task, queue="high", state="STARTED", max_retries=3, max_deaths=3, attempt=1, **held)
    told = part_of(boss.get("/admin/"), 'id="workers"', "</section>")
    assert "2 of 6 slots busy" in told
    first, second = told.split("w1@here")[1].split("w2@here")
    assert re.search(r"high 2 / 4 slow 3 h 2\d s ago", first)
    assert "low 0 / 2" in second


def test_beat_and_dispatcher_say_when_they_last_ticked(boss: Client) -> None:
    now = timezone.now()
    make_worker(id=uuid4(), kind="beat", name="beat@here", lease_until=now + timedelta(minutes=1))
    make_worker(id=uuid4(), kind="dispatcher", name="dispatcher@here")
    Queue.objects.create(name="high", sampled_at=now - timedelta(seconds=12))
    minute, _ = IntervalSchedule.objects.get_or_create(every=1, period="minutes")
    PeriodicTask.objects.create(name="x", task="flaky", interval=minute, last_run_at=now - timedelta(minutes=3))
    told = part_of(boss.get("/admin/"), '<dl class="machinery">', "</dl>")
    assert re.match(r"beat ticked 3 min ago dispatcher swept 1\d s ago ", told)


@pytest.mark.parametrize(("span", "ago", "step"), [("24h", 20, 900), ("7d", 150, 7200)])
def test_charts_add_up_outcomes_and_waits_over_each_step(boss: Client, span: str, ago: int, step: int) -> None:
    moment = timezone.now() - timedelta(hours=ago)
    # Early in a step, so that both minutes are of the same one.
    at = int(moment.timestamp()) // step * step
    first = datetime.fromtimestamp(at, tz=moment.tzinfo)
    counts = {"succeeded": 10, "retried": 3, "failed": 2, "dead_lettered": 1}
    rolled_up(first, **counts, wait_buckets=bucket(100, 15))
    rolled_up(first + timedelta(minutes=5), task="slow", succeeded=7, wait_buckets=bucket(100, 5))
    rolled_up(first, queue="low", succeeded=100, wait_buckets=bucket(5000, 100))
    told = drawn(boss, span)
    here = told["at"].index(at)
    assert (told["step"], told["at"][-1] - told["at"][0]) == (step, {"24h": 86_400, "7d": 604_800}[span])
    assert [told[name][here] for name in ("succeeded", "retried", "failed", "dead_lettered")] == [117, 3, 2, 1]
    assert sum(told["succeeded"]) == 117
    assert {queue: waits[here] for queue, waits in told["wait_p95"].items()} == {
        "high": pytest.approx(0.0975), "low": pytest.approx(4.875), "default": None,
    }  # fmt: skip


def test_charts_keep_what_was_counted_when_jobs_and_letters_are_deleted(boss: Client) -> None:
    at = timezone.now() - timedelta(minutes=5)
    job = make_finished(state="FAILURE", at=at)
    make_attempt(job, 1, "FAILURE", at=at)
    DeadLetter.objects.create(job=job, task=job.task, queue=job.queue, created_at=at, cause="EXHAUSTED", attempt=1)
    make_finished(at=at)
    rollups.build()
    before = drawn(boss, "1h")
    assert (sum(before["succeeded"]), sum(before["failed"]), sum(before["dead_lettered"])) == (1, 1, 1)
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE jobs_job, jobs_attempt, deadletters_deadletter CASCADE")
    charts._answers.clear()
    after = drawn(boss, "1h")
    for name in ("succeeded", "failed", "dead_lettered"):
        assert sum(after[name]) == sum(before[name])
