"""Cancelling a job in every state, with its worker there, gone or going."""

import signal
import time

import pytest

from config.celery import app
from jobs.cancellation import cancel, reinstate
from jobs.errors import Conflict
from jobs.models import Job, Worker
from jobs.submission import submit
from tests.fleet import Fleet
from tests.waiting import eventually, settled, started


@pytest.fixture(scope="module", autouse=True)
def _worker(crew: Fleet) -> None:
    hire(crew)


def hire(crew: Fleet) -> None:
    crew.worker("w", queues="high,default,solo", size=4, include="tests.chaos.inside")


def test_a_waiting_job_is_gone_at_once_and_never_starts() -> None:
    """Scenario 37, PENDING, and nobody reads its queue."""
    job = submit("chaos_sleep", queue="low")
    assert cancel(job.pk, actor="tester").at_once
    job.refresh_from_db()
    assert (job.state, job.attempt) == ("REVOKED", 0)


def test_a_job_that_waits_for_its_retry_is_gone_at_once() -> None:
    """Scenario 37, RETRY."""
    job = submit("chaos_again", {"countdown": 60})
    eventually(lambda: Job.objects.filter(pk=job.pk, state="RETRY").exists(), within=15)
    assert cancel(job.pk, actor="tester").at_once
    job.refresh_from_db()
    assert (job.state, job.attempt) == ("REVOKED", 1)


def test_a_running_job_is_ended_and_its_neighbour_is_not() -> None:
    """Scenario 37, STARTED: a body that asks nobody, one that swallows the wish, one that makes an error of it."""
    jobs = [started(submit(task, {"seconds": 30})) for task in ("chaos_sleep", "chaos_stubborn")]
    deaf, neighbour = started(submit("chaos_deaf", {"seconds": 30})), started(submit("chaos_sleep", {"seconds": 6}))
    for job in [*jobs, deaf]:
        assert not cancel(job.pk, actor="tester").at_once
        assert not cancel(job.pk, actor="tester again").at_once
    for job in jobs:
        settled(job, within=30)
        assert (job.state, job.attempt, job.attempts.get().outcome) == ("REVOKED", 1, "REVOKED")
    # It heard, and finished before it could be ended.
    assert settled(deaf, within=30).state in ("SUCCESS", "REVOKED")
    assert (settled(neighbour).state, neighbour.attempt) == ("SUCCESS", 1)


def test_a_finished_job_cannot_be_cancelled() -> None:
    """Scenario 37, SUCCESS."""
    job = settled(submit("chaos_sleep"))
    with pytest.raises(Conflict):
        cancel(job.pk, actor="tester")


def test_a_process_that_was_told_to_end_and_did_not_spoils_no_later_job() -> None:
    """Whoever swallows the wish leaves a process that must not take another job."""
    deaf = [started(submit("chaos_deaf", {"seconds": 30})) for _ in range(4)]
    for job in deaf:
        cancel(job.pk, actor="tester")
    for job in deaf:
        settled(job, within=30)
    failing = [settled(submit("chaos_raise", {"kind": "MemoryError"})) for _ in range(4)]
    assert [(job.state, job.attempt, job.deaths) for job in failing] == [("FAILURE", 1, 0)] * 4


def test_a_hundred_cancels_race_their_claims_and_no_job_is_both() -> None:
    """Scenario 37, the race; tests/races has it on two connections."""
    jobs = []
    for number in range(100):
        jobs.append(submit("chaos_sleep", {"seconds": 0.02}))
        time.sleep(number % 10 / 1000)
        try:
            cancel(jobs[-1].pk, actor="racer")
        except Conflict:
            continue
    for job in jobs:
        settled(job)
        assert job.state in ("SUCCESS", "REVOKED")
        assert (job.result is not None) == (job.state == "SUCCESS")


def test_flowers_revoke_cancels_a_job_and_its_id_can_run_again() -> None:
    """Scenario 45."""
    waiting, running = submit("chaos_sleep", delay=60), started(submit("chaos_sleep", {"seconds": 30}))
    Job.objects.filter(pk=running.pk).update(payload={"seconds": 0})
    app.control.revoke([str(waiting.pk)])
    app.control.terminate([str(running.pk)], signal="SIGKILL")
    assert {settled(waiting, within=15).state, settled(running, within=30).state} == {"REVOKED"}
    for job in (waiting, running):
        reinstate(job.pk, actor="tester", reason="after all")
    assert {settled(waiting, within=15).state, settled(running, within=15).state} == {"SUCCESS"}


def test_a_cancelled_job_whose_worker_is_killed_or_stopping_is_revoked(crew: Fleet) -> None:
    """Scenario 54: the body asks nobody, the parent dies; then a warm stop waits for another one like it."""
    job = started(submit("chaos_sleep", {"seconds": 60}))
    crew.processes["w"].send_signal(signal.SIGSTOP)
    cancel(job.pk, actor="tester")
    crew.kill("w")
    hire(crew)
    stopping = started(submit("chaos_sleep", {"seconds": 60}))
    crew.kill("w", signal.SIGTERM, wait=False)
    eventually(Worker.objects.filter(pid=crew.pid("w"), state="STOPPING").exists, within=9)
    cancel(stopping.pk, actor="tester")
    for each in (job, stopping):
        settled(each, within=30)
        assert (each.state, each.attempts.get().outcome, each.deaths) == ("REVOKED", "REVOKED", 0)
    assert crew.processes["w"].wait(30) == 0
