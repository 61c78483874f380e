"""What each outcome writes, and that nobody writes for a job it no longer holds."""

from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.db import connection

from api.prepared import on_django
from deadletters.models import DeadLetter
from jobs import connections, querysets
from jobs.diagnosis import plain
from jobs.errors import Unanswered
from jobs.execution import claim, execute
from jobs.models import Attempt, IdempotencyKey, Job
from jobs.outcomes import (
    Abandoned,
    Cancelled,
    Died,
    Failed,
    NotRegistered,
    NotStorable,
    Outcome,
    Released,
    Succeeded,
    TimedOut,
)
from jobs.policies import policy
from jobs.querysets import Held
from jobs.settlement import settle, verdict
from jobs.signals import job_exhausted
from jobs.submission import submit
from jobs.tasks.demonstration import flaky
from tests.making import make_job

pytestmark = pytest.mark.usefixtures("at_work")
ERROR = plain("BOOM", "It broke.")


def held(**fields: Any) -> Held:
    [job] = claim(make_job(**fields).pk, until=0)
    return job


def row(job: Held) -> Job:
    return Job.objects.get(pk=job.id)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What everything that goes to PostgreSQL does to jobs."""
    said: list[str] = []
    execute_it = psycopg.Cursor.execute

    def listening(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        text = query.decode() if isinstance(query, bytes) else str(query)
        said.append(next((words for words in ("INSERT INTO jobs_job", "UPDATE jobs_job") if words in text), text))
        return execute_it(self, query, *args, **kwargs)

    monkeypatch.setattr(psycopg.Cursor, "execute", listening)
    return said


@pytest.mark.parametrize("prepared", [True, False])
def test_a_job_that_succeeds_costs_one_insert_and_two_updates(
    at_work: Any, settings: Any, statements: list[str], prepared: bool
) -> None:
    settings.PREPARED_STATEMENTS = prepared
    connections.close_own()
    connection.close()
    connections.own().rows("SELECT 1", {})
    connection.ensure_connection()
    statements.clear()
    job = submit("flaky", {"failures": 0})
    execute(flaky, job.pk)
    assert statements == ["INSERT INTO jobs_job", "UPDATE jobs_job", "UPDATE jobs_job"]
    assert Job.objects.get().state == "SUCCESS"
    ours = connections.own().rows("SELECT statement FROM pg_prepared_statements", {})
    theirs = on_django("SELECT statement FROM pg_prepared_statements", {})
    assert [any("jobs_job" in row[0] for row in rows) for rows in (ours, theirs)] == [prepared, prepared]


def test_success_stores_the_result_and_leaves_no_attempt_row() -> None:
    job = held()
    settle(job, Succeeded({"a": [1, None, "ü"]}))
    found = row(job)
    assert (found.state, found.result, found.error) == ("SUCCESS", {"a": [1, None, "ü"]}, None)
    assert found.finished_at >= found.started_at
    assert (found.worker_id, found.claim_token) == (job.worker_id, job.claim_token)
    assert not Attempt.objects.exists()


@pytest.mark.parametrize(
    ("outcome", "state", "recorded", "retries", "deaths"),
    [
        (Failed(ERROR), "RETRY", "RETRY", 1, 0),
        (TimedOut(ERROR), "RETRY", "RETRY", 1, 0),
        (NotRegistered(ERROR), "RETRY", "RETRY", 1, 0),
        (Died(ERROR, signal=9), "RETRY", "LOST", 0, 1),
        (Released(ERROR), "PENDING", "RELEASED", 0, 0),
        (Cancelled(ERROR), "REVOKED", "REVOKED", 0, 0),
        (Abandoned(ERROR), "FAILURE", "FAILURE", 0, 0),
        (NotStorable(ERROR), "FAILURE", "FAILURE", 0, 0),
    ],
)
def test_each_outcome_moves_the_job_and_writes_its_attempt(
    outcome: Outcome, state: str, recorded: str, retries: int, deaths: int
) -> None:
    job = held()
    settle(job, outcome)
    found, attempt = row(job), Attempt.objects.get()
    assert (found.state, found.retries, found.deaths) == (state, retries, deaths)
    assert (attempt.number, attempt.outcome, attempt.error_code, attempt.worker_name) == (1, recorded, "BOOM", "test")
    assert attempt.due_at is not None
    assert attempt.started_at == found.started_at
    assert (found.finished_at is None) == (state in ("RETRY", "PENDING"))
    assert DeadLetter.objects.count() == (state == "FAILURE")


def test_a_retry_is_due_after_its_delay_and_has_no_ticket() -> None:
    job = held()
    assert settle(job, Failed(ERROR, delay=90.0)).delay == 90.0
    found, attempt = row(job), Attempt.objects.get()
    assert (found.run_at - attempt.ended_at).total_seconds() == pytest.approx(90, abs=0.01)
    assert found.dispatched_at is None


@pytest.mark.parametrize(
    ("fields", "outcome", "cause"),
    [
        ({"max_retries": 0}, Failed(ERROR), "EXHAUSTED"),
        ({"max_retries": 0}, TimedOut(ERROR), "EXHAUSTED"),
        ({"max_retries": 0}, NotRegistered(ERROR), "NOT_REGISTERED"),
        ({"max_deaths": 1}, Died(ERROR, signal=11), "POISON"),
        ({}, Abandoned(ERROR), "ABANDONED"),
        ({}, NotStorable(ERROR), "NOT_STORABLE"),
    ],
)
def test_a_job_that_will_not_recover_is_a_letter_that_says_why(
    fields: dict[str, Any], outcome: Outcome, cause: str
) -> None:
    job = held(**fields)
    settle(job, outcome)
    letter = DeadLetter.objects.get()
    assert (letter.job_id, letter.cause, letter.attempt, letter.reason) == (job.id, cause, 1, "BOOM: It broke.")
    assert letter.signal == (11 if cause == "POISON" else None)
    assert letter.worker_name == "test"


def test_without_a_letter_there_is_no_failure() -> None:
    job = held(max_retries=0)
    receivers = job_exhausted.receivers
    job_exhausted.receivers = []
    job_exhausted.sender_receivers_cache.clear()
    try:
        with pytest.raises(Unanswered):
            settle(job, Failed(ERROR))
    finally:
        job_exhausted.receivers = receivers
        job_exhausted.sender_receivers_cache.clear()
    assert row(job).state == "STARTED"
    assert not Attempt.objects.exists()


@pytest.mark.parametrize("outcome", [Failed(ERROR), Died(ERROR), Released(ERROR), TimedOut(ERROR), Abandoned(ERROR)])
def test_a_wish_to_cancel_wins_over_every_way_of_going_on(outcome: Outcome) -> None:
    job = held()
    Job.objects.filter(pk=job.id).ask_running_to_stop()
    assert settle(job, outcome).state == "REVOKED"
    assert (row(job).retries, row(job).deaths, Attempt.objects.get().outcome) == (0, 0, "REVOKED")
    assert not DeadLetter.objects.exists()


def test_poison_yields_to_a_wish_to_cancel() -> None:
    job = held(max_deaths=1)
    Job.objects.filter(pk=job.id).ask_running_to_stop()
    assert settle(job, Died(ERROR)).state == "REVOKED"


def test_a_job_that_finished_before_it_could_be_stopped_is_a_success() -> None:
    job = held()
    Job.objects.filter(pk=job.id).ask_running_to_stop()
    assert settle(job, Succeeded(1)).state == "SUCCESS"


@pytest.mark.parametrize("late", [Succeeded("late"), Failed(ERROR), Abandoned(ERROR)])
def test_a_late_worker_cannot_settle_a_job_that_was_claimed_again(late: Outcome) -> None:
    job = held()
    settle(job, Died(ERROR))
    Job.objects.filter(pk=job.id).retry_now()
    [again] = claim(job.id, until=0)
    assert settle(job, late).state is None
    found = row(job)
    assert (found.state, found.attempt, found.result) == ("STARTED", 2, None)
    fenced = Attempt.objects.get(number=1)
    assert (fenced.outcome, fenced.fenced_outcome) == ("LOST", verdict(job, late, policy("flaky"), chance=0).recorded)
    assert settle(again, Succeeded("mine")).state == "SUCCESS"
    assert row(job).result == "mine"


def test_a_late_worker_with_the_right_attempt_but_another_token_is_fenced() -> None:
    job = held()
    assert settle(job._replace(claim_token=uuid4()), Succeeded("late")).state is None
    assert row(job).state == "STARTED"


def test_a_settlement_sent_twice_is_recorded_once_and_is_no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    job = held()
    own = connections.own()
    send = own.rows
    cut = iter([True])

    def send_and_lose_the_answer(statement: str, params: Any) -> Any:
        rows = send(statement, params)
        if statement == querysets.SUCCEED and next(cut, False):
            own._raw.close()
            own._raw.execute("SELECT 1")
        return rows

    monkeypatch.setattr(own, "rows", send_and_lose_the_answer)
    assert settle(job, Succeeded(1), until=float("inf")).state == "SUCCESS"
    assert not Attempt.objects.exists()


def test_a_callback_is_committed_with_the_outcome() -> None:
    done, failed = (
        held(callback_url="https://example.com/done"),
        held(callback_url="https://example.com/f", max_retries=0),
    )
    settle(done, Succeeded({"n": 1}))
    settle(failed, Failed(ERROR))
    first, second = Job.objects.filter(task="deliver_webhook").order_by("created_at")
    assert first.payload["url"] == "https://example.com/done"
    assert first.payload["body"]["result"] == {"n": 1}
    assert second.payload["body"]["error"] == {"code": "BOOM", "message": "It broke."}
    assert first.callback_url is None
    keys = set(IdempotencyKey.objects.values_list("key", flat=True))
    assert keys == {f"callback:{done.id}:1", f"callback:{failed.id}:1"}
