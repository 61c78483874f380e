"""PostgreSQL that crashes under claims and submits."""

import threading
import time
from collections.abc import Iterator
from uuid import UUID

import pytest
from django.db import DatabaseError, InterfaceError

from jobs.models import Attempt, IdempotencyKey, Job, Worker
from jobs.submission import submit
from tests.chaos import outage_tasks
from tests.site import Site, finished, forget_connections, in_state, many, seconds, started, summary
from tests.waiting import eventually

ONCE = {("SUCCESS", 1)}


@pytest.fixture(scope="module", autouse=True)
def _running(site: Site) -> None:
    site.fleet.dispatcher()
    site.fleet.worker("w", size=4, include=outage_tasks.__name__)


@pytest.fixture(autouse=True)
def _nobody_dies(site: Site) -> Iterator[None]:
    yield
    assert site.fleet.processes["w"].poll() is None
    assert not Worker.objects.filter(state="DEAD").exists()
    assert not Attempt.objects.filter(outcome="LOST").exists()


def test_a_crash_during_claims_costs_no_job_a_second_attempt(site: Site) -> None:
    """Scenario 14."""
    jobs = many(150, "outage_nap", {"seconds": 0.05})
    eventually(lambda: in_state("SUCCESS", jobs) > 20, within=30, what="the first jobs to finish")
    with site.no_postgres():
        down = time.monotonic()
        eventually(lambda: seconds(down) > 3, within=10)
    assert summary(finished(jobs, within=60)) == ONCE
    assert max((job.finished_at - job.started_at).total_seconds() for job in Job.objects.all()) < 20  # type: ignore[operator]


def test_many_short_crashes_cost_no_job_a_second_attempt(site: Site) -> None:
    """Scenario 14, five times: every restart cuts some claim or settlement in half."""
    jobs = many(300, "outage_nap", {"seconds": 0.02})
    for share in (20, 60, 100, 140, 180):
        eventually(lambda share=share: in_state("SUCCESS", jobs) > share, within=30, what="some jobs to finish")  # type: ignore[misc]
        with site.no_postgres():
            pass
    assert summary(finished(jobs, within=60)) == ONCE


def test_a_body_that_shows_progress_through_an_outage_is_not_failed_by_it(site: Site) -> None:
    """Scenario 15, for a body that talks to the database while it runs."""
    jobs = [submit("slow", {"seconds": 5}) for _ in range(2)]
    started(jobs)
    with site.no_postgres():
        down = time.monotonic()
        eventually(lambda: seconds(down) > 2.5, within=10)
    assert summary(finished(jobs, within=45)) == ONCE


def test_a_client_that_repeats_its_key_through_a_restart_makes_one_job_per_key(site: Site) -> None:
    """Scenario 13."""
    answers: dict[str, UUID] = {}
    done = threading.Event()
    failures: list[str] = []

    def client(number: int) -> None:
        """Submit key after key, each until it is answered, as a careful client does."""
        for turn in range(10_000):
            if done.is_set():
                break
            key = f"{number}:{turn}"
            answers[key] = ask_until_answered(key, failures)
        forget_connections()

    clients = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for each in clients:
        each.start()
    try:
        for _ in range(3):
            count = len(answers)
            eventually(lambda count=count: len(answers) > count + 50, within=30, what="answers")  # type: ignore[misc]
            with site.no_postgres():
                pass
        count = len(answers)
        eventually(lambda: len(answers) > count + 50, within=30, what="answers after the last restart")
    finally:
        done.set()
        for each in clients:
            each.join()
    assert failures, "no submit met the restarts; this test showed nothing"
    assert {row.key: row.job_id for row in IdempotencyKey.objects.all()} == answers
    assert {submit("flaky", {"failures": 0}, key=key).pk for key in list(answers)[-20:]} <= set(answers.values())
    assert Job.objects.filter(task="flaky").count() == len(answers)
    assert summary(finished(list(Job.objects.filter(task="flaky")), within=90)) == ONCE


def ask_until_answered(key: str, failures: list[str]) -> UUID:
    while True:
        try:
            return submit("flaky", {"failures": 0}, key=key).pk
        except (DatabaseError, InterfaceError) as error:
            failures.append(str(error))
            forget_connections()
            time.sleep(0.05)
