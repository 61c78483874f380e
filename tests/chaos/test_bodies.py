"""What a body may do to its worker, and what becomes of it: settled, with the worker unhurt."""

from collections.abc import Callable
from typing import Any

import pytest

from deadletters.models import DeadLetter
from jobs.models import Job
from jobs.submission import submit
from tests.chaos import inside
from tests.fleet import Fleet
from tests.waiting import settled


@pytest.fixture(scope="module")
def submitted(crew: Fleet) -> dict[str, Job]:
    """Every scenario at once; all of them finish while the first one is looked at."""
    crew.worker("w", size=4, include="tests.chaos.inside")
    jobs = {
        "hangs": submit("chaos_hang"),
        "frozen": submit("chaos_hang", {"frozen": True}),
        "stubborn": submit("chaos_hang", {"stubborn": True}),
        "deaf": submit("chaos_deaf", {"seconds": 1}),
        "dawdles": submit("chaos_dawdle", {"seconds": 5}),
        "brisk": submit("chaos_dawdle", {"seconds": 0.1}),
        "eats": submit("chaos_eat"),
    }
    jobs |= {f"raises {kind}": submit("chaos_raise", {"kind": kind}) for kind in inside.ERRORS}
    jobs |= {f"returns {kind}": submit("chaos_return", {"kind": kind}) for kind in inside.RESULTS}
    return jobs


@pytest.fixture
def finished(submitted: dict[str, Job]) -> Callable[[str], Job]:
    return lambda name: settled(submitted[name], within=60)


@pytest.fixture(scope="module", autouse=True)
def _worker_survives(submitted: dict[str, Job], crew: Fleet) -> Any:
    yield
    assert crew.processes["w"].poll() is None
    assert settled(submit("chaos_sleep"), within=15).state == "SUCCESS"


@pytest.mark.parametrize("kind", inside.ERRORS)
def test_whatever_a_body_raises_is_a_failure_with_a_letter(finished: Callable[[str], Job], kind: str) -> None:
    """Scenario 58."""
    job = finished(f"raises {kind}")
    assert (job.state, job.attempt, job.deaths) == ("FAILURE", 1, 0)
    letter = DeadLetter.objects.get(job=job)
    assert letter.cause == "EXHAUSTED"
    assert "\0" not in letter.reason


@pytest.mark.parametrize("kind", inside.RESULTS)
def test_a_result_that_cannot_be_stored_is_a_letter_after_one_run(finished: Callable[[str], Job], kind: str) -> None:
    """Scenario 33."""
    job = finished(f"returns {kind}")
    assert (job.state, job.attempt, job.error_code) == ("FAILURE", 1, "NOT_STORABLE")
    assert DeadLetter.objects.get(job=job).cause == "NOT_STORABLE"


@pytest.mark.parametrize("name", ["hangs", "frozen", "stubborn"])
def test_the_hard_limit_ends_an_attempt_as_a_retry_and_frees_its_slot(
    finished: Callable[[str], Job], name: str
) -> None:
    """Scenario 29."""
    job = finished(name)
    assert (job.state, job.attempt, job.retries, job.deaths) == ("SUCCESS", 2, 1, 0)
    ended = job.attempts.get()
    assert (ended.outcome, ended.error_code) == ("RETRY", "TIME_LIMIT")
    assert 2 <= (ended.ended_at - ended.started_at).total_seconds() <= 9


def test_the_soft_limit_is_felt_in_the_body_and_nowhere_else(finished: Callable[[str], Job]) -> None:
    late, brisk = finished("dawdles"), finished("brisk")
    assert (late.state, late.error_code, late.attempt) == ("FAILURE", "SOFT_TIME_LIMIT", 1)
    assert (brisk.state, brisk.result) == ("SUCCESS", "done")


def test_a_body_that_wants_too_much_memory_is_tried_again(finished: Callable[[str], Job]) -> None:
    """Scenario 27."""
    job = finished("eats")
    assert (job.state, job.attempt, job.retries, job.deaths) == ("SUCCESS", 2, 1, 0)
    assert job.attempts.get().error_code == "MemoryError"
