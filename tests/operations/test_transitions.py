"""Every legal move of a job is one line of the log, with its id and the state it is in by then; so is every submit."""

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from deadletters.drop import drop
from deadletters.models import DeadLetter
from deadletters.replay import replay
from deadletters.replaying import replay_together
from jobs import dispatch
from jobs.batch_settlement import release_together, succeed_together
from jobs.bulk import submit_many
from jobs.cancellation import cancel, reinstate, retry_now
from jobs.diagnosis import plain
from jobs.drafting import draft
from jobs.execution import claim, execute
from jobs.logs import JobFields, running_job
from jobs.models import Job
from jobs.outcomes import Abandoned, Cancelled, Failed, Outcome, Released, Succeeded
from jobs.querysets import Held
from jobs.registry import find
from jobs.settlement import settle
from jobs.states import TRANSITIONS, State
from jobs.submission import submit
from jobs.together import cancel_together, reinstate_together, retry_together
from tests.making import make_job

pytestmark = pytest.mark.usefixtures("at_work")
ERROR = plain("BOOM", "It broke.")
BY: dict[str, Any] = {"actor": "ada", "reason": "why"}
Act = Callable[[Job, Held], Any]


def ending(outcome: Outcome) -> Act:
    return lambda _, held: settle(held, outcome)


def one(act: Callable[..., Any]) -> Act:
    return lambda job, _: act(job.pk, **BY)


def many(act: Callable[..., Any]) -> Act:
    def do(job: Job, _: Held) -> None:
        with transaction.atomic():
            act([Job.objects.select_for_update().get(pk=job.pk)], **BY, details={})

    return do


def run(job: Job, _: Held) -> None:
    """Claim, fail and settle: the first of its lines is the claim's."""
    execute(find("flaky"), job.pk)


def expire(job: Job, _: Held) -> None:
    Job.objects.filter(pk=job.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert dispatch.expire() == 1


def replay_many(job: Job, _: Held) -> None:
    with transaction.atomic():
        replay_together([letter(job)], **BY)


def letter(job: Job) -> DeadLetter:
    return DeadLetter.objects.get(job=job)


def released(_: Job, held: Held) -> None:
    release_together([held], "why")


def cancelled_and_released(job: Job, held: Held) -> None:
    Job.objects.filter(pk=job.pk).ask_running_to_stop()
    release_together([held], "why")


MOVES: list[tuple[State, Act, State]] = [
    (State.PENDING, run, State.STARTED),
    (State.PENDING, one(cancel), State.REVOKED),
    (State.PENDING, many(cancel_together), State.REVOKED),
    (State.PENDING, expire, State.REVOKED),
    (State.STARTED, ending(Succeeded(1)), State.SUCCESS),
    (State.STARTED, lambda _, held: succeed_together([(held, Succeeded(1))], until=0.0), State.SUCCESS),
    (State.STARTED, ending(Failed(ERROR)), State.RETRY),
    (State.STARTED, ending(Abandoned(ERROR)), State.FAILURE),
    (State.STARTED, ending(Cancelled(ERROR)), State.REVOKED),
    (State.STARTED, cancelled_and_released, State.REVOKED),
    (State.STARTED, ending(Released(ERROR)), State.PENDING),
    (State.STARTED, released, State.PENDING),
    (State.RETRY, run, State.STARTED),
    (State.RETRY, one(cancel), State.REVOKED),
    (State.RETRY, expire, State.REVOKED),
    (State.RETRY, one(retry_now), State.PENDING),
    (State.RETRY, many(retry_together), State.PENDING),
    (State.FAILURE, lambda job, _: replay(letter(job), **BY), State.PENDING),
    (State.FAILURE, replay_many, State.PENDING),
    (State.REVOKED, one(reinstate), State.PENDING),
    (State.REVOKED, many(reinstate_together), State.PENDING),
]
ENDS = {State.RETRY: Failed(ERROR, delay=0.0), State.FAILURE: Abandoned(ERROR), State.REVOKED: Cancelled(ERROR)}


def test_no_legal_move_is_left_out_here() -> None:
    assert {(before, after) for before, _, after in MOVES} == {
        (before, after) for before, moves in TRANSITIONS.items() for after in moves
    }


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[Job], list[dict[str, Any]]]:
    """The lines that name a job, as the handler of production would get them."""
    caplog.handler.addFilter(JobFields())
    caplog.set_level(logging.INFO)
    return lambda job: [vars(each) for each in caplog.records if vars(each).get("job_id") == str(job.pk)]


@pytest.mark.parametrize(("before", "act", "after"), MOVES, ids=lambda each: str(getattr(each, "__name__", each)))
def test_a_move_is_one_line(before: State, act: Act, after: State, said: Any, caplog: pytest.LogCaptureFixture) -> None:
    job = make_job("flaky", {"failures": 9})
    held: Any = None
    if before != State.PENDING:
        [held] = claim(job.pk, until=time.monotonic() + 30)
    if before in ENDS:
        settle(held, ENDS[before])
    caplog.clear()
    act(job, held)
    moves = [line["state"] for line in said(job)]
    assert moves == ([State.STARTED, State.RETRY] if act is run else [after])


def test_a_submit_and_what_is_dropped_are_told_too(said: Any) -> None:
    job = submit("flaky", {"failures": 0})
    [held] = claim(job.pk, until=time.monotonic() + 30)
    settle(held, Abandoned(ERROR))
    drop(letter(job), **BY)
    told = [(line["msg"] % (line["args"] or ()), line["state"]) for line in said(job)]
    assert told == [("job submitted", "PENDING"), ("job settled", "FAILURE"), ("job dropped", "FAILURE")]


def test_many_submitted_at_once_are_one_line_with_the_first_and_the_last(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    written = submit_many([draft("flaky", {"failures": 0}) for _ in range(3)])
    [line] = [vars(each) for each in caplog.records if each.name == "jobs"]
    assert (line["jobs"], line["state"]) == (3, "PENDING")
    assert (line["first"], line["last"]) == (str(written[0].job_id), str(written[-1].job_id))


def test_what_is_rolled_back_is_not_told(said: Any) -> None:
    with transaction.atomic():
        job = submit("flaky", {"failures": 0})
        cancel(job.pk, **BY)
        transaction.set_rollback(True)
    assert said(job) == []


def test_what_a_body_does_to_another_job_is_told_of_that_job_and_names_the_one_that_did_it(said: Any) -> None:
    with running_job(job_id="mine", task="pass_on", attempt=4, worker="w", request_id="asked"):
        job = submit("flaky", {"failures": 0})
    [line] = said(job)
    assert (line["by_job"], line["task"], line["request_id"], line["worker"]) == ("mine", "flaky", "asked", "w")
    assert "attempt" not in line
