"""Two connections at the same row: exactly one may win."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction

from jobs import connections, querysets
from jobs.bulk import submit_many
from jobs.cancellation import cancel
from jobs.drafting import draft
from jobs.errors import Conflict, KeyBusy, KeyReused
from jobs.models import IdempotencyKey, Job
from jobs.processes import me, this_process
from jobs.submission import submit
from tests.making import make_job

pytestmark = pytest.mark.usefixtures("at_work")


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run `work` in threads that all start at once, each with connections of its own."""
    barrier = threading.Barrier(count)

    def run(number: int) -> Any:
        try:
            barrier.wait()
            return work(number)
        finally:
            connections.close_own()
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def claim_with_own_token(job: Job) -> list[Any]:
    process = this_process()
    names = {"id": job.pk, "token": uuid4(), "worker": me.worker, "pid": process.pid, "ticks": process.ticks}
    return connections.own().rows(querysets.CLAIM, names)


@pytest.mark.parametrize("round_", range(10))
def test_two_claims_of_one_job_have_one_winner(round_: int) -> None:
    job = make_job()
    won = [rows for rows in in_threads(4, lambda _: claim_with_own_token(job)) if rows]
    job.refresh_from_db()
    assert (len(won), job.attempt, job.state) == (1, 1, "STARTED")


def test_many_submits_of_one_key_make_one_job() -> None:
    jobs = in_threads(20, lambda _: submit("flaky", {"failures": 0}, key="same"))
    assert len({job.pk for job in jobs}) == 1
    assert sum(not job.replayed for job in jobs) == 1
    assert Job.objects.count() == IdempotencyKey.objects.count() == 1


def test_one_key_with_different_bodies_makes_one_job_and_refuses_the_rest() -> None:
    def attempt(number: int) -> Any:
        try:
            return submit("flaky", {"failures": number}, key="same").pk
        except KeyReused as error:
            return error

    answers = in_threads(8, attempt)
    assert Job.objects.count() == 1
    assert sum(isinstance(answer, KeyReused) for answer in answers) == 7


def test_a_second_submit_waits_for_the_first_and_gets_its_job() -> None:
    first_is_in, second_may_end = threading.Event(), threading.Event()

    def work(number: int) -> Any:
        if number:
            first_is_in.wait(10)
            second_may_end.set()
            return submit("flaky", {"failures": 0}, key="open").pk
        with transaction.atomic():
            job = submit("flaky", {"failures": 0}, key="open")
            first_is_in.set()
            second_may_end.wait(10)
        return job.pk

    first, second = in_threads(2, work)
    assert first == second


def test_a_key_held_open_too_long_is_busy_and_breaks_nothing(settings: Any) -> None:
    settings.KEY_PATIENCE_MS = 100
    first_is_in, second_is_done = threading.Event(), threading.Event()

    def work(number: int) -> Any:
        if not number:
            with transaction.atomic():
                submit("flaky", {"failures": 0}, key="held")
                first_is_in.set()
                second_is_done.wait(20)
            return None
        first_is_in.wait(10)
        try:
            with transaction.atomic():
                other = submit("flaky", {"failures": 0})
                with pytest.raises(KeyBusy):
                    submit("flaky", {"failures": 0}, key="held")
                with connection.cursor() as cursor:
                    cursor.execute("SHOW lock_timeout")
                    assert cursor.fetchone() == ("0",)
            return other.pk
        finally:
            second_is_done.set()

    _, other = in_threads(2, work)
    assert Job.objects.filter(pk=other).exists()


def test_the_callers_own_lock_timeout_holds_again_after_a_submit_with_a_key() -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '7s'")
        submit("flaky", {"failures": 0}, key="one")
        submit_many([draft("flaky", {"failures": 0}, key="many")])
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("7s",)


def test_when_the_first_rolls_back_the_second_makes_the_job() -> None:
    first_is_in = threading.Event()

    def work(number: int) -> Any:
        if number:
            first_is_in.wait(10)
            return submit("flaky", {"failures": 0}, key="rolled back")
        with transaction.atomic():
            submit("flaky", {"failures": 0}, key="rolled back")
            first_is_in.set()
            transaction.set_rollback(True)
        return None

    _, second = in_threads(2, work)
    assert not second.replayed
    assert Job.objects.get().pk == second.pk


@pytest.mark.parametrize("round_", range(25))
def test_cancel_against_claim_is_never_both(round_: int) -> None:
    job = make_job()

    def work(number: int) -> Any:
        if number:
            return bool(claim_with_own_token(job))
        return cancel(job.pk, actor="race").at_once

    at_once, claimed = in_threads(2, work)
    job.refresh_from_db()
    assert at_once != claimed
    assert job.state == ("STARTED" if claimed else "REVOKED")
    assert (job.cancel_requested_at is not None) or claimed


def test_cancelling_a_finished_job_is_a_conflict() -> None:
    job = make_job()
    cancel(job.pk, actor="a")
    with pytest.raises(Conflict):
        cancel(job.pk, actor="b")
