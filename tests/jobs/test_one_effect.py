"""One effect under one key, however often and in whatever order a job is retried, redelivered, lost and replayed."""

from collections import Counter
from typing import Any
from uuid import UUID

import pytest
from celery import shared_task
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from deadletters.models import DeadLetter
from deadletters.replay import replay
from jobs import rescue
from jobs.cancellation import cancel, reinstate, retry_now
from jobs.diagnosis import plain
from jobs.errors import Abandon
from jobs.execution import claim, execute, run
from jobs.models import Job
from jobs.outcomes import Died, Released
from jobs.settlement import settle
from jobs.submission import submit
from jobs.task import JobTask

# The world outside: what was charged, by idempotency key, and the gateway that knows its keys.
charged: Counter[str] = Counter()
known_to_gateway: Counter[str] = Counter()
fate = {"raises": ""}


@shared_task(base=JobTask, name="one_effect_charge", bind=True)
def charge(self: JobTask) -> str:
    """Charge once, tell a gateway that knows keys every time, and end as the test says."""
    if fate["raises"] == "before":
        raise ConnectionError
    self.job.once("charge", lambda: charged.update([self.job.idempotency_key]))
    known_to_gateway[self.job.idempotency_key] += 1
    if fate["raises"] == "after":
        raise ConnectionError
    if fate["raises"] == "gives up":
        raise Abandon("never")
    return "charged"


def ticket_arrives(job: Job, raises: str) -> None:
    """A ticket, maybe its third copy, meets the claim; the body ends one way or another."""
    fate["raises"] = raises
    execute(charge, job.pk)


def dies(job: Job, where: str) -> None:
    """The process is gone before or after the body, and somebody finds out."""
    fate["raises"] = ""
    for held in claim(job.pk, until=0):
        if where == "after the body":
            run(charge, held)
        outcome = Died if where != "at a stop" else Released
        settle(held, outcome(plain("GONE", where)))


def comes_back_late(job: Job) -> None:
    """The process was thought dead, the job ran again, and then the first one ends too."""
    fate["raises"] = ""
    for held in claim(job.pk, until=0):
        settle(held, Died(plain("SILENT", "thought dead")))
        make_due(job)
        execute(charge, job.pk)
        settle(held, run(charge, held))


def make_due(job: Job) -> None:
    if Job.objects.filter(pk=job.pk, state__in=["RETRY", "PENDING"]).exists():
        Job.objects.filter(pk=job.pk).retry_now()


def operator(job: Job, what: str) -> None:
    """Replay the letter, cancel and reinstate, have it run now: whatever is possible."""
    state = Job.objects.get(pk=job.pk).state
    if what == "replay" and state == "FAILURE":
        replay(DeadLetter.objects.get(job=job, resolution=None), actor="tester", reason="again")
    if what == "cancel" and state in ("PENDING", "RETRY"):
        cancel(job.pk, actor="tester")
    if what == "reinstate" and state == "REVOKED":
        reinstate(job.pk, actor="tester")
    if what == "run now" and state == "RETRY":
        retry_now(job.pk, actor="tester")


steps = st.one_of(
    st.tuples(st.just(ticket_arrives), st.sampled_from(["", "before", "after", "gives up"])),
    st.tuples(st.just(dies), st.sampled_from(["before the body", "after the body", "at a stop"])),
    st.tuples(st.just(comes_back_late)),
    st.tuples(st.just(operator), st.sampled_from(["replay", "cancel", "reinstate", "run now"])),
    st.tuples(st.just(make_due)),
)


@pytest.mark.usefixtures("at_work")
@given(history=st.lists(steps, max_size=25), key=st.sampled_from([None, "order-7"]))
@settings(
    max_examples=60, deadline=None, derandomize=False, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_retries_redeliveries_deaths_and_replays_leave_one_effect(history: list[Any], key: str | None) -> None:
    Job.objects.all().delete()
    charged.clear()
    known_to_gateway.clear()
    job = submit("one_effect_charge", key=key)
    for step, *arguments in history:
        note(f"{Job.objects.get(pk=job.pk).state}: {step.__name__} {arguments}")
        make_due(job)
        step(job, *arguments)
    finish(job)
    own_key = key or str(job.pk)
    assert charged == {own_key: 1}
    assert set(known_to_gateway) == {own_key}
    assert_accounted(job.pk)


def finish(job: Job) -> None:
    """However it stands, it can be brought to success."""
    operator(job, "replay")
    operator(job, "reinstate")
    make_due(job)
    ticket_arrives(job, "")
    ticket_arrives(job, "")
    assert Job.objects.get(pk=job.pk).state == "SUCCESS"


def assert_accounted(job: UUID) -> None:
    row = Job.objects.get(pk=job)
    assert row.attempt == row.attempts.count() + 1
    assert not DeadLetter.objects.filter(job=row, resolution=None).exists()
    assert rescue.held_by_me([job]) == {}
