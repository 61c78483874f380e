"""Tasks whose body commits with its outcome: the database effect happens once, whatever happens to COMMIT."""

import pytest

from jobs.submission import submit
from tests.chaos import inside, oracle
from tests.fleet import Fleet
from tests.waiting import settled


@pytest.fixture(scope="module", autouse=True)
def _worker(crew: Fleet) -> None:
    crew.worker("w", size=3, include="tests.chaos.inside")


def test_an_effect_commits_with_its_outcome() -> None:
    job = settled(submit("chaos_atomic"))
    assert (job.state, job.attempt, oracle.effects(job)) == ("SUCCESS", 1, 1)


def test_the_effect_of_a_failed_attempt_is_rolled_back() -> None:
    job = settled(submit("chaos_atomic", {"fails": True}))
    assert (job.state, job.attempt, job.retries, oracle.effects(job)) == ("SUCCESS", 2, 1, 1)


def test_a_commit_that_never_arrived_is_tried_again() -> None:
    """Scenario 60, cut before the server heard COMMIT."""
    job = settled(submit("chaos_atomic", {"place": inside.BEFORE_COMMIT}))
    assert (job.state, job.attempt, job.retries, oracle.effects(job)) == ("SUCCESS", 2, 1, 1)


def test_a_commit_whose_answer_was_lost_is_what_the_row_says() -> None:
    """Scenario 60, cut after the server did it."""
    job = settled(submit("chaos_atomic", {"place": inside.AFTER_COMMIT}))
    assert (job.state, job.attempt, job.retries, oracle.effects(job)) == ("SUCCESS", 1, 0, 1)


def test_an_atomic_body_whose_process_dies_leaves_nothing() -> None:
    job = settled(submit("chaos_atomic", {"place": inside.AFTER_CLAIM}))
    assert (job.state, job.attempt, job.deaths, oracle.effects(job)) == ("SUCCESS", 2, 1, 1)
