"""The product in a few stories: real workers, a real dispatcher, real kills."""

import os
import signal

import psutil
import pytest
from celery import current_app
from celery.result import AsyncResult
from django_celery_results.models import TaskResult

from deadletters.models import DeadLetter
from deadletters.replay import replay
from jobs.models import Job
from jobs.submission import submit
from jobs.tasks.demonstration import flaky
from tests.fleet import Fleet
from tests.waiting import eventually

FINAL = ("SUCCESS", "FAILURE", "REVOKED")


@pytest.fixture(scope="module", autouse=True)
def _running(fleet: Fleet) -> None:
    fleet.dispatcher()
    fleet.worker(size=3)


def settled(job: Job, *, within: float = 60) -> Job:
    def final() -> bool:
        job.refresh_from_db()
        return job.state in FINAL

    eventually(final, within=within, what=f"{job} to finish")
    return job


def started(job: Job) -> Job:
    def is_started() -> bool:
        job.refresh_from_db()
        return job.state == "STARTED"

    eventually(is_started, within=30, what=f"{job} to start")
    return job


def test_a_job_succeeds_on_its_first_attempt_and_leaves_no_attempt_row() -> None:
    job = settled(submit("flaky", {"failures": 0}))
    assert (job.state, job.attempt, job.result) == ("SUCCESS", 1, {"status": "done", "attempt": 1})
    assert not job.attempts.exists()


def test_delay_returns_a_result_that_reads_the_row() -> None:
    result = flaky.delay(failures=0)
    assert isinstance(result, AsyncResult)
    assert result.get(timeout=30) == {"status": "done", "attempt": 1}
    assert Job.objects.get(pk=result.id).state == "SUCCESS"


def test_only_what_is_no_job_leaves_a_result_of_celerys() -> None:
    job = settled(submit("flaky", {"failures": 0}))
    other = current_app.send_task("celery.backend_cleanup", queue="default")
    row = eventually(lambda: TaskResult.objects.filter(task_id=other.id).first(), within=30, what="its result")
    assert row.status == "SUCCESS"
    assert not TaskResult.objects.filter(task_id=str(job.pk)).exists()


def test_a_failing_job_waits_as_its_policy_says_and_then_succeeds() -> None:
    job = settled(submit("flaky", {"failures": 2}))
    assert (job.state, job.attempt, job.retries) == ("SUCCESS", 3, 2)
    first, second = job.attempts.order_by("number")
    assert 2.0 <= first.delay <= 2.6
    assert 4.0 <= second.delay <= 5.2
    waited = (second.started_at - first.ended_at).total_seconds()
    assert first.delay <= waited


def test_an_exhausted_job_is_a_letter_and_its_replay_keeps_id_and_key() -> None:
    job = submit("flaky", {"failures": 5}, key="story-exhausted")
    Job.objects.filter(pk=job.pk).update(max_retries=1)
    job = settled(job)
    assert job.state == "FAILURE"
    letter = DeadLetter.objects.get(job=job)
    assert (letter.cause, letter.is_open) == ("EXHAUSTED", True)
    assert "ConnectionError: Failure 2 of 5." in letter.reason
    assert "Failure 2 of 5." in job.attempts.get(number=2).traceback

    replay(letter, actor="tester", reason="the story wants it", payload={"failures": 0})
    again = settled(Job.objects.get(pk=job.pk))
    assert (again.state, again.attempt) == ("SUCCESS", 3)
    assert again.idempotency_key == "story-exhausted"
    letter.refresh_from_db()
    assert (letter.resolution, letter.payload_before, letter.payload_after) == (
        "REPLAYED", {"failures": 5}, {"failures": 0},
    )  # fmt: skip


def test_a_killed_child_costs_its_job_one_attempt_and_no_other_job_any(fleet: Fleet) -> None:
    victim, bystander = submit("slow", {"seconds": 3}), submit("slow", {"seconds": 3})
    started(bystander)
    os.kill(started(victim).child_pid, signal.SIGKILL)
    victim, bystander = settled(victim), settled(bystander)
    assert (victim.state, victim.attempt, victim.deaths) == ("SUCCESS", 2, 1)
    assert (bystander.state, bystander.attempt) == ("SUCCESS", 1)
    lost = victim.attempts.get()
    assert (lost.outcome, lost.signal, lost.worker_name) == ("LOST", signal.SIGKILL, "w@test")


def test_a_killed_parent_costs_its_jobs_one_attempt_and_all_finish(fleet: Fleet) -> None:
    jobs = [submit("slow", {"seconds": 4}) for _ in range(3)]
    waiting = submit("flaky", {"failures": 0})
    for job in jobs:
        started(job)
    children = fleet.children("w")
    fleet.kill("w")
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in children), within=10, what="children to go")
    fleet.worker("w2", size=3)
    assert [(settled(job).state, job.attempt, job.deaths) for job in jobs] == [("SUCCESS", 2, 1)] * 3
    assert (settled(waiting).state, waiting.attempt) == ("SUCCESS", 1)
