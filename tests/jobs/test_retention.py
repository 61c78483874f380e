from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from django.utils import timezone

from jobs import retention
from jobs.ids import uuid7
from jobs.models import Attempt, Effect, Event, IdempotencyKey, Job, JobLabel, Worker
from jobs.submission import submit
from tests.fleet import database_url
from tests.making import force_state, make_job, make_worker
from tests.waiting import eventually


@pytest.fixture
def other() -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url()) as session:
        yield session


def days_ago(days: float) -> Any:
    return timezone.now() - timedelta(days=days)


def make_final(state: str, days: float, *, key_days: float | None = None) -> Job:
    """A job that ended so many days ago; its key, if it has one, expires `key_days` from now."""
    job = make_job(key=str(uuid7()) if key_days is not None else None, tags=["old"])
    force_state(job, state, finished_at=days_ago(days))
    if key_days is not None:
        IdempotencyKey.objects.filter(job=job).update(expires_at=days_ago(-key_days))
    return job


def kept() -> set[Any]:
    return set(Job.objects.values_list("pk", flat=True))


@pytest.mark.django_db(transaction=True)
def test_only_old_succeeded_and_revoked_jobs_without_a_key_in_force_go() -> None:
    gone = [make_final("SUCCESS", 31), make_final("REVOKED", 31), make_final("SUCCESS", 40, key_days=-1)]
    stays = [
        make_final("SUCCESS", 29),
        make_final("FAILURE", 300),
        make_final("SUCCESS", 300, key_days=1),
        make_job(),
    ]
    assert retention.retire(dry_run=True)["jobs"] == len(gone)
    assert len(kept()) == len(gone) + len(stays)
    assert retention.retire(dry_run=False)["jobs"] == len(gone)
    assert kept() == {job.pk for job in stays}


@pytest.mark.django_db(transaction=True)
def test_a_state_may_have_a_period_of_its_own(settings: Any) -> None:
    settings.RETENTION_DAYS_BY_STATE = {"SUCCESS": 7, "REVOKED": 90}
    gone = [make_final("SUCCESS", 8), make_final("REVOKED", 91)]
    stays = [make_final("SUCCESS", 6), make_final("REVOKED", 89)]
    assert retention.retire(dry_run=False)["jobs"] == len(gone)
    assert kept() == {job.pk for job in stays}


@pytest.mark.django_db(transaction=True)
def test_everything_that_belongs_to_a_job_goes_with_it() -> None:
    job = make_final("SUCCESS", 31, key_days=-1)
    Attempt.objects.create(job=job, number=1, outcome="RETRY")
    Event.objects.create(job=job, verb="retry now")
    Effect.objects.create(job=job, name="mail")
    retention.retire(dry_run=False)
    for model in (Job, IdempotencyKey, JobLabel, Attempt, Event, Effect):
        assert not model.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_job_somebody_is_busy_with_is_left_for_the_next_run(other: psycopg.Connection[Any]) -> None:
    busy, gone = make_final("REVOKED", 31), make_final("REVOKED", 31)
    other.execute("SELECT FROM jobs_job WHERE id = %s FOR UPDATE", [busy.pk])
    assert retention.retire(dry_run=False)["jobs"] == 1
    assert kept() == {busy.pk} != {gone.pk}


@pytest.mark.django_db(transaction=True)
def test_old_events_about_no_job_go_and_those_of_a_job_stay() -> None:
    Event.objects.create(verb="queue paused", at=days_ago(31))
    recent = Event.objects.create(verb="queue paused", at=days_ago(29))
    attached = Event.objects.create(verb="cancelled", at=days_ago(31), job=make_job())
    assert retention.retire(dry_run=False)["events"] == 1
    assert set(Event.objects.values_list("pk", flat=True)) == {recent.pk, attached.pk}


@pytest.mark.django_db(transaction=True)
def test_dead_workers_are_forgotten_once_nobody_has_to_rescue_their_jobs() -> None:
    long_ago = days_ago(2)
    make_worker(id=uuid7(), name="forgotten", state="DEAD", heartbeat_at=long_ago)
    holding = make_worker(id=uuid7(), name="holding", state="DEAD", heartbeat_at=long_ago)
    make_worker(id=uuid7(), name="just dead", state="DEAD", heartbeat_at=days_ago(0.5))
    make_worker(id=uuid7(), name="silent", state="UP", heartbeat_at=long_ago)
    force_state(make_job(), "STARTED", worker_id=holding.pk, claim_token=uuid7(), started_at=long_ago, finished_at=None)
    assert retention.retire(dry_run=False)["workers"] == 1
    assert set(Worker.objects.values_list("name", flat=True)) == {"holding", "just dead", "silent"}


@pytest.mark.django_db(transaction=True)
def test_a_key_ends_with_its_job_however_that_ends(other: psycopg.Connection[Any]) -> None:
    stays = make_job(key="stays")
    gone = [make_job(key=f"gone {number}").pk for number in range(3)]
    for ids in (gone[:1], gone[1:]):
        other.execute("DELETE FROM jobs_job WHERE id = ANY(%(ids)s)", {"ids": ids})
        other.commit()
        assert set(IdempotencyKey.objects.values_list("job_id", flat=True)) == {stays.pk, *gone[1:]} - set(ids)
    other.execute("TRUNCATE jobs_job CASCADE")
    other.commit()
    assert not IdempotencyKey.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_key_taken_over_while_its_old_job_is_deleted_stays_with_the_new_one(
    other: psycopg.Connection[Any],
) -> None:
    """The deletion waits for the takeover, and then finds that the key is another job's."""
    old = make_final("SUCCESS", 300, key_days=-1)
    key = IdempotencyKey.objects.get(job=old).key
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            new = submit("flaky", {"failures": 0}, key=key)
            deleting = pool.submit(other.execute, "DELETE FROM jobs_job WHERE id = %(id)s", {"id": old.pk})
            eventually(lambda: is_waiting(other), within=5, what="the deletion to wait for the key")
        deleting.result(timeout=10)
    other.commit()
    assert list(IdempotencyKey.objects.values_list("job_id", flat=True)) == [new.pk]
    assert kept() == {new.pk}


def is_waiting(session: psycopg.Connection[Any]) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", [session.info.backend_pid])
        return cursor.fetchone()[0]
