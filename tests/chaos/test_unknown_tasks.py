"""An old worker during a deploy meets tasks it does not know."""

import pytest

from deadletters.models import DeadLetter
from jobs.models import Job
from jobs.submission import submit
from tests.fleet import Fleet
from tests.waiting import eventually, settled


@pytest.fixture(scope="module", autouse=True)
def _old_worker(crew: Fleet) -> None:
    crew.environment["TRAPS"] = ""
    crew.worker("old", queues="default", size=1)


def test_an_old_worker_sends_a_new_task_on_to_a_new_worker(crew: Fleet) -> None:
    """Scenario 36, while the deploy goes on."""
    job = submit("chaos_new_task")
    eventually(job.attempts.exists, within=15, what="the old worker to meet it")
    old = job.attempts.get(number=1)
    assert (old.outcome, old.error_code, old.worker_name) == ("RETRY", "NOT_REGISTERED", "old@test")
    assert 2.0 <= old.delay <= 2.6
    Job.objects.filter(pk=job.pk).update(queue="high")
    crew.worker("new", queues="high", size=1, include="tests.chaos.inside")
    job = settled(job)
    assert (job.state, job.result, job.deaths) == ("SUCCESS", "known", 0)


def test_a_task_nobody_knows_becomes_a_letter_and_the_worker_goes_on(crew: Fleet) -> None:
    """Scenario 36, without a worker that knows it."""
    job = submit("chaos_new_task")
    Job.objects.filter(pk=job.pk).update(max_retries=1)
    job = settled(job, within=30)
    assert (job.state, job.attempt, job.retries) == ("FAILURE", 2, 1)
    assert DeadLetter.objects.get(job=job).cause == "NOT_REGISTERED"
    assert settled(submit("flaky", {"failures": 0})).state == "SUCCESS"
    assert crew.processes["old"].poll() is None
