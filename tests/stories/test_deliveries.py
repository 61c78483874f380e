"""One behaviour under both deliveries: the same stories, told with tickets and with doorbells."""

import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from django.utils import timezone

from config import settings as shipped
from deadletters.models import DeadLetter
from deadletters.replay import replay
from jobs.bulk import submit_many
from jobs.cancellation import cancel, reinstate
from jobs.drafting import draft
from jobs.models import Attempt, Event, Job
from jobs.pausing import pause, resume
from jobs.submission import submit
from tests.fleet import Fleet
from tests.waiting import eventually, settled, started


@pytest.fixture(scope="module", params=["each", "batch"])
def delivery(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module", autouse=True)
def _running(delivery: str, fleet: Fleet, tmp_path_factory: Any) -> Iterator[None]:
    """Policies where every task of the demonstration has this delivery, here and in the processes."""
    policies = tmp_path_factory.mktemp(delivery) / "policies.toml"
    text = Path(shipped.POLICIES_FILE).read_text()
    text = text.replace('delivery = "each"', f'delivery = "{delivery}"', 1)
    policies.write_text(
        text.replace("[slow]", "[slow]\nsoft_limit = 90").replace("[flaky]", "[flaky]\nsoft_limit = 30")
    )
    fleet.environment["POLICIES_FILE"] = str(policies)
    with override_settings(POLICIES_FILE=policies):
        for name in ("dispatcher", "w"):
            if name in fleet.processes:
                fleet.kill(name)
        fleet.dispatcher()
        fleet.worker(size=2)
        yield


def together(task: str, payloads: list[dict[str, Any]], **options: Any) -> list[Job]:
    """Submitted in one transaction, so that they can be claimed together."""
    written = submit_many([draft(task, payload, **options) for payload in payloads])
    return [Job.objects.get(pk=each.job_id) for each in written]


def summary(jobs: list[Job], *, within: float = 60) -> list[tuple[str, int]]:
    return [(settled(job, within=within).state, job.attempt) for job in jobs]


def outcomes(job: Job) -> list[str]:
    return list(job.attempts.order_by("number").values_list("outcome", flat=True))


def test_the_delivery_is_what_the_policy_says(delivery: str) -> None:
    job = settled(submit("flaky", {"failures": 0}))
    assert (job.dispatched_at is None) == (delivery == "batch")


def test_jobs_succeed_once_and_leave_no_attempt_rows() -> None:
    jobs = together("flaky", [{"failures": 0}] * 60)
    assert summary(jobs) == [("SUCCESS", 1)] * 60
    assert jobs[0].result == {"status": "done", "attempt": 1}
    assert not Attempt.objects.filter(job__in=jobs).exists()


def test_a_failing_job_waits_as_its_policy_says(delivery: str) -> None:
    job = settled(submit("flaky", {"failures": 1}))
    assert (job.state, job.attempt, job.retries) == ("SUCCESS", 2, 1)
    [failed] = job.attempts.all()
    assert (failed.outcome, failed.error_code) == ("RETRY", "ConnectionError")
    assert 2.0 <= failed.delay <= 2.6


def test_an_exhausted_job_is_a_letter_and_its_replay_succeeds(delivery: str) -> None:
    job = submit("flaky", {"failures": 5}, key=f"{delivery}-exhausted")
    Job.objects.filter(pk=job.pk).update(max_retries=0)
    assert settled(job).state == "FAILURE"
    replay(DeadLetter.objects.get(job=job), actor="t", reason="r", payload={"failures": 0})
    eventually(lambda: Job.objects.get(pk=job.pk).state == "SUCCESS", within=30)


def test_a_paused_queue_starts_nothing_and_expiry_is_kept() -> None:
    pause("low", actor="t", reason="r")
    waiting = together("flaky", [{"failures": 0}] * 5, queue="low")
    late = submit("flaky", {"failures": 0}, queue="low", expires_at=timezone.now() - timedelta(seconds=1))
    assert settled(late).error_code == "EXPIRED"
    assert Event.objects.filter(job=late, verb="expired").count() == 1
    assert not Job.objects.filter(pk__in=[job.pk for job in waiting], attempt__gt=0).exists()
    resume("low", actor="t")
    assert summary(waiting) == [("SUCCESS", 1)] * 5
    reinstate(late.pk, actor="t")
    eventually(lambda: Job.objects.get(pk=late.pk).state == "SUCCESS", within=30)


def test_progress_shows_and_a_running_job_is_cancelled() -> None:
    job = started(submit("slow", {"seconds": 60}))
    eventually(lambda: Job.objects.get(pk=job.pk).progress, within=10)
    assert cancel(job.pk, actor="t").at_once is False
    job = settled(job, within=20)
    assert (job.state, job.attempt) in {("REVOKED", 1)}
    assert settled(submit("flaky", {"failures": 0})).attempt == 1


def test_one_slow_job_holds_nobody_back(delivery: str) -> None:
    """Scenario 50."""
    jobs = together("slow", [{"seconds": 5.0 if n == 7 else 0} for n in range(100)])
    assert [settled(job).state for job in jobs] == ["SUCCESS"] * 100
    slow = next(job for job in jobs if job.payload["seconds"])
    others = max(job.finished_at for job in jobs if job is not slow)
    assert slow.attempt == 1
    assert slow.finished_at - others > timedelta(seconds=1 if delivery == "each" else 3.5)


def test_one_job_that_kills_its_process_costs_the_others_one_death_at_most() -> None:
    """Scenario 49."""
    jobs = together("crash", [{"times": 100 if n == 50 else 0} for n in range(100)])
    for job in jobs:
        settled(job, within=90)
    culprit = next(job for job in jobs if job.payload["times"])
    others = [job for job in jobs if job is not culprit]
    assert {job.state for job in others} == {"SUCCESS"}
    assert max(job.deaths for job in others) <= 1
    assert (culprit.state, culprit.deaths, outcomes(culprit)) == ("FAILURE", 3, ["LOST"] * 3)
    assert DeadLetter.objects.get(job=culprit).cause == "POISON"
    alone = [attempt.child_pid for attempt in culprit.attempts.filter(number__gt=1)]
    sharing = Attempt.objects.filter(job__in=others, child_pid__in=alone)
    assert not sharing.exists()


def test_a_killed_child_costs_its_jobs_one_death(delivery: str) -> None:
    """Claimed together, both were in its hands; with tickets of their own they are in two."""
    victim, bystander = submit("slow", {"seconds": 3}), submit("slow", {"seconds": 3})
    started(bystander)
    os.kill(started(victim).child_pid, signal.SIGKILL)
    victim, bystander = settled(victim), settled(bystander)
    assert (victim.state, victim.attempt, victim.deaths) == ("SUCCESS", 2, 1)
    assert bystander.state == "SUCCESS"
    assert bystander.deaths <= (delivery == "batch")
    assert (victim.attempts.get().signal, victim.attempts.get().outcome) == (signal.SIGKILL, "LOST")


def test_every_line_of_a_job_names_it(delivery: str, fleet: Fleet) -> None:
    job = settled(submit("flaky", {"failures": 0}, key=f"{delivery}-logged"))
    lines = eventually(lambda: [line for line in fleet.log("w").splitlines() if str(job.pk) in line], within=10)
    [claimed] = [line for line in lines if "job claimed" in line]
    [recorded] = [line for line in lines if "job settled" in line]
    for line in (claimed, recorded):
        assert f"idempotency_key={delivery}-logged" in line
        assert "queue=default" in line
        assert "worker=w@test" in line


def test_a_killed_worker_costs_its_jobs_one_death_and_all_finish(fleet: Fleet) -> None:
    jobs = together("slow", [{"seconds": 0.2}] * 20)
    eventually(lambda: Job.objects.filter(pk__in=[job.pk for job in jobs], state="STARTED").exists(), within=30)
    fleet.kill("w")
    fleet.worker(size=2)
    assert {state for state, _ in summary(jobs)} == {"SUCCESS"}
    assert max(job.deaths for job in jobs) == 1
    for job in jobs:
        assert job.attempt == 1 + job.attempts.count()


def test_a_stop_gives_the_jobs_back_uncharged(fleet: Fleet) -> None:
    jobs = together("slow", [{"seconds": 60}] * 2)
    for job in jobs:
        started(job)
        Job.objects.filter(pk=job.pk).update(payload={"seconds": 0})
    fleet.kill("w", signal.SIGQUIT)
    fleet.worker(size=2)
    assert {state for state, _ in summary(jobs)} == {"SUCCESS"}
    assert [(job.deaths, job.retries) for job in jobs] == [(0, 0)] * 2
    assert {outcome for job in jobs for outcome in outcomes(job)} == {"RELEASED"}
