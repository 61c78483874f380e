"""Each guard of the protocol alone, so that taking it out makes a test of this page fail (tests/chaos/mutations.py)."""

import threading
import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone

from jobs import rescue
from jobs.diagnosis import plain
from jobs.execution import claim
from jobs.losses import LossDetector, _Suspicion
from jobs.management.commands.dispatcher import _sweep_until
from jobs.models import Job, Worker
from jobs.outcomes import Abandoned, Failed, Outcome, Succeeded
from jobs.querysets import Held
from jobs.rescue import View
from jobs.settlement import settle
from tests.making import make_job, make_worker
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("at_work")
ERROR = plain("BOOM", "It broke.")
OUTCOMES = [Succeeded("late"), Failed(ERROR), Abandoned(ERROR)]


def held() -> Held:
    [job] = claim(make_job().pk, until=0)
    return job


def silent_worker() -> Worker:
    """A worker of another machine that was last heard of an hour ago."""
    silent = make_worker(id=uuid4(), name="silent", host="elsewhere")
    Worker.objects.filter(pk=silent.pk).update(heartbeat_at=timezone.now() - timedelta(hours=1))
    return silent


@pytest.mark.parametrize("late", OUTCOMES)
def test_the_right_token_with_another_attempt_settles_nothing(late: Outcome) -> None:
    job = held()
    assert settle(job._replace(attempt=job.attempt + 1), late).state is None
    assert Job.objects.get(pk=job.id).state == "STARTED"


@pytest.mark.parametrize("late", OUTCOMES)
def test_the_right_attempt_with_another_token_settles_nothing(late: Outcome) -> None:
    job = held()
    assert settle(job._replace(claim_token=uuid4()), late).state is None
    assert Job.objects.get(pk=job.id).state == "STARTED"


def test_a_dispatcher_that_has_just_come_to_see_the_database_judges_nobody_by_silence() -> None:
    job, silent = held(), silent_worker()
    Job.objects.filter(pk=job.id).update(worker_id=silent.pk)
    assert rescue.sweep(View()) == 0
    assert Worker.objects.get(pk=silent.pk).state == "UP"


def test_a_dispatcher_that_has_seen_the_database_for_a_lease_takes_a_silent_workers_job(settings: Any) -> None:
    job, silent = held(), silent_worker()
    Job.objects.filter(pk=job.id).update(worker_id=silent.pk)
    view = View()
    settings.LEASE_SECONDS = 0.0
    assert rescue.sweep(view) == 1
    assert Job.objects.get(pk=job.id).state == "RETRY"


def test_a_stall_of_the_dispatcher_itself_starts_its_view_again(settings: Any) -> None:
    settings.HEARTBEAT_SECONDS, settings.LEASE_SECONDS = 0.05, 0.1
    view = View()
    time.sleep(0.15)
    assert view.is_unbroken()
    view.look()
    assert not view.is_unbroken()


def test_a_claimed_job_cannot_be_claimed_again() -> None:
    job = held()
    assert claim(job.id, until=0) == []


def test_a_ticket_that_waits_in_its_queue_is_never_issued_again(settings: Any) -> None:
    settings.TICKET_GRACE_SECONDS = 0.0
    jobs = [make_job() for _ in range(5)]
    # A row more than there are tickets: somebody holds one, so the queue is looked at.
    Job.objects.filter(pk=_without_ticket().pk).update(dispatched_at=timezone.now(), dispatch_no=1)
    detector = LossDetector()
    assert sum(detector.sweep() for _ in range(4)) == 1
    assert set(Job.objects.filter(pk__in=[job.pk for job in jobs]).values_list("dispatch_no", flat=True)) == {1}


def test_a_ticket_seen_to_be_absent_only_once_is_not_lost_yet(settings: Any) -> None:
    settings.TICKET_GRACE_SECONDS = 0.0
    first, second = _without_ticket(), _without_ticket()
    _mark_dispatched(first)
    detector = LossDetector()
    assert detector.sweep() == 0
    _mark_dispatched(second)
    assert detector.sweep() == 1
    assert Job.objects.get(pk=second.pk).dispatch_no == 1


class ThreeTurns(threading.Event):
    """Lets the dispatcher go on at once, twice, and keeps how long it would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        return len(self.waits) == 3


def test_the_dispatcher_waits_no_longer_than_until_a_suspicion_is_ripe(settings: Any) -> None:
    settings.TICKET_GRACE_SECONDS, settings.DISPATCH_SECONDS = 50, 100
    _mark_dispatched(_without_ticket())
    stop = ThreeTurns()
    _sweep_until(stop)
    assert stop.waits[0] == 100
    assert stop.waits[1:] == [pytest.approx(50, abs=10)] * 2


def test_a_suspicion_is_ripe_after_its_grace(settings: Any) -> None:
    settings.TICKET_GRACE_SECONDS = 0.5
    detector = LossDetector()
    assert detector.patience() == float("inf")
    lost = _without_ticket()
    _mark_dispatched(lost)
    assert detector.sweep() == 0
    assert 0 < detector.patience() <= 0.5
    began = time.monotonic()
    assert eventually(detector.sweep, within=3) == 1
    assert time.monotonic() - began <= 1.5
    assert detector.patience() == float("inf")
    # One that is ripe and could not be looked at must not make the dispatcher spin.
    detector.suspicions["default"] = _Suspicion({lost.pk: timezone.now()}, time.monotonic() - 1, prompted=True)
    assert detector.patience() == float("inf")


def _without_ticket() -> Job:
    """A due job for which no ticket was ever pushed."""
    job = make_job(delay=60)
    Job.objects.filter(pk=job.pk).update(run_at=timezone.now() - timedelta(seconds=1))
    return job


def _mark_dispatched(job: Job) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE jobs_job SET dispatched_at = clock_timestamp(), dispatch_no = 1 WHERE id = %s", [job.pk])
