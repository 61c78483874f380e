"""The numbers at /metrics that test_metrics.py says nothing about, each with a value of its own."""

from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
import redis
from django.db import connection
from django.test import Client
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from prometheus_client.parser import text_string_to_metric_families

from deadletters.models import ReplayOperation
from jobs.ids import uuid7
from jobs.models import Event, Queue
from monitoring import counters, rollups
from monitoring.history import Samples, samples
from monitoring.models import RollupProgress
from tests.fleet import database_url
from tests.making import make_worker
from tests.monitoring.making import make_attempt, make_finished, make_letter

pytestmark = pytest.mark.django_db(transaction=True)
# How long a value may have aged between being written and being read.
SLOW = 30


@pytest.fixture
def scrape(settings: Any) -> Any:
    settings.METRICS_NETWORKS = ["10.1.0.0/16"]

    def scraped() -> Samples:
        answer = Client(REMOTE_ADDR="10.1.2.3").get("/metrics")
        return samples(text_string_to_metric_families(answer.content.decode()))

    return scraped


def ago(**span: float) -> datetime:
    return timezone.now() - timedelta(**span)


def value(found: Samples, name: str, **labels: str) -> float:
    return found[f"switchyard_{name}"][tuple(sorted(labels.items()))]


def make_different_numbers_of_everything(at: datetime) -> None:
    """All on one queue and of one task: 13 jobs, 27 attempts that have started."""
    _, _, *others = [make_finished(state=state, at=at) for state in ["SUCCESS"] * 2 + ["FAILURE"] * 11]
    job, number = others[0], iter(range(1, 100))
    for outcome, count, delay in (("RETRY", 3, 1.0), ("RELEASED", 4, 0.0), ("LOST", 6, 1.0), ("FAILURE", 7, None)):
        for _ in range(count):
            make_attempt(job, next(number), outcome, at=at, delay=delay)
    for _ in range(5):
        make_attempt(job, next(number), "FENCED", at=at, fenced_at=at)
    for attempt in range(9):
        make_letter(job, at=at, attempt=attempt, resolution="DROPPED", resolved_at=at)
    for verb, count in (
        ("cancelled", 7), ("expired", 1), (rollups.REPUBLISHED, 10), (rollups.REFUSED, 11), (counters.REPLAYED, 12),
        ("retry now", 20),
    ):  # fmt: skip
        Event.objects.bulk_create(Event(job=job, verb=verb, at=at) for _ in range(count))


def test_every_counter_counts_what_its_name_says_before_and_after_the_rollups(scrape: Any) -> None:
    make_different_numbers_of_everything(ago(minutes=5))
    expected = {
        "jobs_submitted": 13, "attempts_ended": 27, "jobs_succeeded": 2, "jobs_failed": 7, "attempts_retried": 3,
        "jobs_dead_lettered": 9, "jobs_revoked": 8, "attempt_deaths": 6, "attempts_released": 4, "attempts_fenced": 5,
        "tickets_republished": 10, "tickets_refused": 11, "jobs_replayed": 12,
    }  # fmt: skip
    for build in (lambda: None, rollups.build):
        build()
        found = scrape()
        counted = {name: of for name, of in found.items() if name.startswith("switchyard_") and name.endswith("_total")}
        assert {name: sum(of.values()) for name, of in counted.items()} == {
            f"switchyard_{name}_total": number for name, number in expected.items()
        }
        assert all(of[("queue", "default"), ("task", "process_data")] == sum(of.values()) for of in counted.values())


def test_the_progress_of_replays_that_are_not_over(scrape: Any) -> None:
    for state, total, done, skipped in (("RUNNING", 10, 3, 2), ("PAUSED", 100, 20, 10), ("DONE", 1000, 1000, 0)):
        ReplayOperation.objects.create(reason="r", pace=1, state=state, total=total, done=done, skipped=skipped)
    found = scrape()["switchyard_replay_letters"]
    assert {dict(labels)["state"]: number for labels, number in found.items()} == {
        "waiting": 75, "done": 23, "skipped": 12,
    }  # fmt: skip


def test_the_ages_of_what_beats_ticks_and_sweeps(scrape: Any) -> None:
    ticked = ago(seconds=300)
    every_minute = IntervalSchedule.objects.create(every=1, period="minutes")
    PeriodicTask.objects.create(name="new", task="t", interval=every_minute, last_run_at=ticked)
    PeriodicTask.objects.create(name="off", task="t", interval=every_minute, last_run_at=ago(seconds=1), enabled=False)
    make_worker(kind="beat", name="b", lease_until=ago(minutes=-5))
    make_worker(id=uuid7(), kind="beat", name="second", lease_until=None)
    make_worker(id=uuid7(), name="w", heartbeat_at=ago(seconds=100))
    Queue.objects.update_or_create(name="low", defaults={"sampled_at": ago(seconds=200)})
    RollupProgress.objects.create(id=1, frozen_until=ago(seconds=900), built_until=ago(seconds=400))
    found = scrape()
    assert value(found, "beat_last_tick_timestamp_seconds") == pytest.approx(ticked.timestamp(), abs=0.001)
    assert value(found, "beat_leases") == 1
    assert 100 <= value(found, "worker_heartbeat_age_seconds", worker="w", kind="worker") < 100 + SLOW
    assert value(found, "worker_heartbeat_age_seconds", worker="b", kind="beat") < SLOW
    assert 200 <= value(found, "dispatcher_sweep_age_seconds") < 200 + SLOW
    assert 400 <= value(found, "rollups_age_seconds") < 400 + SLOW


def asked() -> Any:
    """Connections, their limit, and the bytes of the database."""
    connections = "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')"
    limit, size = "current_setting('max_connections')::int", "pg_database_size(current_database())"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {connections}, {limit}, {size}")
        return cursor.fetchone()


def test_what_postgresql_says_of_itself(scrape: Any) -> None:
    with psycopg.connect(database_url()) as session:
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        session.execute("SELECT count(*) FROM jobs_job")
        before, limit, size = asked()
        found = scrape()
        after, _, _ = asked()
    assert 0 < value(found, "postgres_oldest_snapshot_seconds") < SLOW
    assert min(before, after) <= value(found, "postgres_connections") <= max(before, after)
    assert value(found, "postgres_connections_limit") == limit
    assert value(found, "postgres_database_size_bytes") == pytest.approx(size, rel=0.2)


def test_what_redis_holds(scrape: Any, broker: redis.Redis) -> None:
    broker.rpush("low", "a", "b", "c")
    broker.rpush("high", "a")
    memory: Any = broker.info("memory")
    found = scrape()
    assert [value(found, "redis_tickets", queue=queue) for queue in ("low", "high", "default")] == [3, 1, 0]
    assert value(found, "redis_memory_bytes") == pytest.approx(memory["used_memory"], rel=0.5)
