from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from django.utils import timezone

from deadletters.models import DeadLetter
from jobs.execution import execute
from jobs.models import Attempt, Event, Job
from jobs.submission import submit
from monitoring import rollups
from monitoring.histograms import BOUNDS_MS, BUCKETS, percentile
from monitoring.models import Rollup, RollupProgress
from monitoring.tasks import build_rollups
from monitoring.totals import overall, totals
from tests.fleet import database_url
from tests.monitoring.making import make_attempt, make_finished, make_history

COUNTED = ["submitted", "started", "succeeded", "failed", "retried", "dead_lettered"]
COUNTED += ["revoked", "deaths", "released", "fenced", "republished", "duplicates"]
VERBS = {"cancelled": "revoked", "expired": "revoked"}
VERBS |= {"ticket republished": "republished", "ticket refused": "duplicates"}


@pytest.fixture
def other() -> Iterator[psycopg.Connection[Any]]:
    """A second session on the same database."""
    with psycopg.connect(database_url()) as session:
        yield session


def facts(until: datetime) -> Iterator[tuple[datetime, Job, str, tuple[datetime, datetime, datetime] | None]]:
    """Everything that ever happened, one by one, in Python: what the rollups must agree with."""
    for job in Job.objects.filter(created_at__lt=until):
        yield job.created_at, job, "submitted", None
    for job in Job.objects.filter(finished_at__lt=until, state="SUCCESS"):
        yield job.finished_at, job, "succeeded", (job.run_at, job.started_at, job.finished_at)
    for attempt in Attempt.objects.filter(ended_at__lt=until).select_related("job"):
        names = {"RETRY": "retried", "LOST": "deaths", "RELEASED": "released", "REVOKED": "revoked"}
        times = attempt.started_at and (attempt.due_at, attempt.started_at, attempt.ended_at)
        yield attempt.ended_at, attempt.job, names.get(attempt.outcome, ""), times
        if attempt.outcome in ("FAILURE", "LOST") and attempt.delay is None:
            yield attempt.ended_at, attempt.job, "failed", None
        if attempt.fenced_at:
            yield attempt.ended_at, attempt.job, "fenced", None
    for letter in DeadLetter.objects.filter(created_at__lt=until).select_related("job"):
        yield letter.created_at, letter.job, "dead_lettered", None
    for event in Event.objects.filter(at__lt=until, verb__in=VERBS).select_related("job"):
        yield event.at, event.job, VERBS[event.verb], None


def bucket(start: datetime, end: datetime) -> int:
    return bisect_right(BOUNDS_MS, max(0.0, (end - start).total_seconds() * 1000))


def recount(until: datetime) -> dict[Any, dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = defaultdict(
        lambda: dict.fromkeys(COUNTED, 0) | {"wait_buckets": [0] * BUCKETS, "run_buckets": [0] * BUCKETS}
    )
    for at, job, what, times in facts(until):
        row = found[at.replace(second=0, microsecond=0), job.queue, job.task]
        if what:
            row[what] += 1
        if times:
            due, started, ended = times
            row["started"] += 1
            row["wait_buckets"][bucket(due, started)] += 1
            row["run_buckets"][bucket(started, ended)] += 1
    return dict(found)


def stored() -> dict[Any, dict[str, Any]]:
    names = [*COUNTED, "wait_buckets", "run_buckets"]
    return {(row["minute"], row["queue"], row["task"]): {n: row[n] for n in names} for row in Rollup.objects.values()}


def minutes_ago(minutes: float) -> datetime:
    return timezone.now() - timedelta(minutes=minutes)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("seed", range(3))
def test_rollups_equal_a_recount_of_every_row_also_when_rows_come_late(seed: int) -> None:
    random = Random(seed)
    make_history(random, count=120, since=minutes_ago(300), until=timezone.now())
    until = rollups.build().until
    assert until and stored() == recount(until)

    make_history(random, count=40, since=minutes_ago(9), until=timezone.now())
    until = rollups.build().until
    assert until and stored() == recount(until)


@pytest.mark.django_db(transaction=True)
def test_building_again_changes_nothing() -> None:
    make_history(Random(1), count=30, since=minutes_ago(8), until=timezone.now())
    rollups.build()
    before = list(Rollup.objects.values())
    rollups.build()
    new = rollups.floor_minute(timezone.now()) - rollups.MINUTE
    assert [row for row in Rollup.objects.values() if row["minute"] < new] == [r for r in before if r["minute"] < new]


@pytest.mark.django_db(transaction=True)
def test_a_minute_is_frozen_after_ten_minutes() -> None:
    make_finished(at=minutes_ago(30))
    rollups.build()
    make_finished(at=minutes_ago(25), created_at=minutes_ago(5))
    rollups.build()
    total = overall(totals(Rollup.objects.all(), "queue").values())
    assert (total.submitted, total.succeeded) == (2, 1)


@pytest.mark.django_db(transaction=True)
def test_a_row_whose_transaction_was_open_while_its_minute_passed_is_counted_once(
    other: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    later = rollups._HORIZON.replace("clock_timestamp()", "clock_timestamp() + interval '5 minutes'")
    monkeypatch.setattr(rollups, "_HORIZON", later)
    monkeypatch.setattr(rollups, "RECOUNTED", timedelta(0))
    rollups.build()
    other.execute(
        "INSERT INTO jobs_job (id, task, queue, payload, state, attempt, retries, max_retries, deaths, max_deaths, "
        "created_at, run_at, dispatch_no, tags) VALUES (gen_random_uuid(), 'slow', 'low', '{}', 'PENDING', 0, 0, 1, 0, "
        "1, clock_timestamp(), now(), 0, '{}')"
    )
    rollups.build()
    assert not Rollup.objects.exists()
    other.commit()
    rollups.build()
    rollups.build()
    assert totals(Rollup.objects.all(), "task")["slow"].submitted == 1


@pytest.mark.django_db(transaction=True)
def test_what_vanished_from_a_minute_before_it_froze_becomes_zero() -> None:
    job = make_finished(at=minutes_ago(5))
    rollups.build()
    Job.objects.filter(pk=job.pk).delete()
    rollups.build()
    assert overall(totals(Rollup.objects.all(), "queue").values()).started == 0


@pytest.mark.django_db(transaction=True)
def test_a_ticket_refused_late_is_counted_once_in_its_own_minute() -> None:
    at = minutes_ago(5)
    job = make_finished(at=at, run=0.1, wait=0.1)
    rollups.build()
    Event.objects.create(job=job, verb=rollups.REFUSED, at=at)
    rollups.build()
    rollups.build()
    assert [row.minute for row in Rollup.objects.filter(duplicates=1)] == [rollups.floor_minute(at)]
    assert overall(totals(Rollup.objects.all(), "queue").values()).duplicates == 1


@pytest.mark.django_db(transaction=True)
def test_after_an_outage_it_catches_up_in_bounded_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollups, "STEPS_PER_RUN", 2)
    make_history(Random(3), count=60, since=minutes_ago(11 * 60), until=timezone.now())
    runs = 1
    while not rollups.build().is_complete:
        runs += 1
    assert runs == 3
    assert stored() == recount(RollupProgress.objects.get().built_until)


@pytest.mark.django_db(transaction=True)
def test_a_second_builder_leaves_the_first_alone(other: psycopg.Connection[Any]) -> None:
    rollups.build()
    other.execute("SELECT FROM monitoring_rollupprogress FOR UPDATE")
    assert rollups.build().until is None


@pytest.mark.django_db(transaction=True)
def test_progress_keeps_the_sum_of_frozen_minutes() -> None:
    for minutes in (5, 50, 90, 200):
        make_finished(at=minutes_ago(minutes))
    make_attempt(make_finished(state="FAILURE", at=minutes_ago(70)), 1, "FAILURE", at=minutes_ago(70))
    rollups.build()
    progress = RollupProgress.objects.get()
    assert (progress.succeeded, progress.failed) == (3, 1)


@pytest.mark.django_db(transaction=True)
def test_the_task_builds_rollups(at_work: Any) -> None:
    job = submit("build_rollups")
    settled = execute(build_rollups, job.id)
    assert settled and settled.state == "SUCCESS"
    assert RollupProgress.objects.exists()


@pytest.mark.django_db
def test_rollups_read_only_index_ranges() -> None:
    make_history(Random(5), count=400, since=minutes_ago(3000), until=timezone.now())
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {rollups._BUILD}", {"since": minutes_ago(10), "until": timezone.now()})
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "Seq Scan" not in plan
    for index in ("job_newest", "job_finished", "attempt_by_end", "letter_newest", "event_newest"):
        assert index in plan


@pytest.mark.parametrize(
    ("counts", "fraction", "expected"),
    [
        ({}, 0.5, None),
        ({0: 1}, 0.5, 2.5),
        ({4: 100}, 0.5, 75.0),
        ({4: 100}, 1.0, 100.0),
        ({3: 50, 4: 50}, 0.5, 50.0),
        ({3: 95, 8: 5}, 0.95, 50.0),
        ({3: 90, 8: 10}, 0.95, 1750.0),
        ({BUCKETS - 1: 3}, 0.95, 3_600_000.0),
    ],
)
def test_a_percentile_is_interpolated_inside_its_bucket(
    counts: dict[int, int], fraction: float, expected: float | None
) -> None:
    buckets = [counts.get(index, 0) for index in range(BUCKETS)]
    assert percentile(buckets, fraction) == (expected if expected is None else pytest.approx(expected))
