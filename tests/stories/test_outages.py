"""Redis goes away, PostgreSQL goes away, both come back: the jobs of busy workers finish on their first attempt."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connection

from jobs.models import Attempt, Queue, Worker
from jobs.submission import submit
from tests.chaos import outage_tasks
from tests.fleet import FAST
from tests.site import Site, finished, many, seconds, started, summary
from tests.waiting import eventually

TASKS = outage_tasks.__name__
LEASE = float(FAST["LEASE_SECONDS"])
ONCE = {("SUCCESS", 1)}


@pytest.fixture(scope="module", autouse=True)
def _running(site: Site) -> None:
    site.fleet.dispatcher()
    site.fleet.worker("busy", queues="high,default,solo", size=4, include=TASKS)
    site.fleet.worker("idle", queues="low")


@pytest.fixture(autouse=True)
def _nobody_dies(site: Site) -> Iterator[None]:
    pids = {name: process.pid for name, process in site.fleet.processes.items()}
    yield
    assert {name: process.pid for name, process in site.fleet.processes.items() if process.poll() is None} == pids
    assert not Worker.objects.filter(state="DEAD").exists()
    assert not Attempt.objects.filter(outcome="LOST").exists()


def lasts(length: float) -> None:
    """The outage itself is a stretch of time, not a condition."""
    began = time.monotonic()
    eventually(lambda: seconds(began) >= length, within=length + 5)


@contextmanager
def frozen(site: Site, name: str) -> Iterator[None]:
    site.fleet.kill(name, signal.SIGSTOP, wait=False)
    try:
        yield
    finally:
        site.fleet.kill(name, signal.SIGCONT, wait=False)


def the_dispatcher_has_swept() -> None:
    """It samples the queues when it has looked for silent workers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        [back] = cursor.fetchone()
    eventually(lambda: Queue.objects.filter(sampled_at__gt=back).exists(), within=LEASE / 2, what="a sweep")


def test_redis_restarts_under_busy_workers(site: Site) -> None:
    """Scenario 10."""
    running = [submit("outage_nap", {"seconds": 10}) for _ in range(4)]
    started(running)
    with site.no_redis():
        lasts(1.25 * LEASE)
        meanwhile = [submit("flaky", {"failures": 0}) for _ in range(5)]
    assert summary(finished([*running, *meanwhile], within=45)) == ONCE


def test_postgresql_is_away_for_longer_than_the_lease_while_jobs_finish(site: Site) -> None:
    """Scenarios 15 and 16; one worker comes back later than the dispatcher, which must give it time."""
    running = [submit("outage_nap", {"seconds": 3}) for _ in range(4)]
    waiting = many(8)
    started(running)
    with frozen(site, "idle"):
        with site.no_postgres():
            lasts(2 * LEASE)
        the_dispatcher_has_swept()
    back = time.monotonic()
    jobs = finished(running, within=15)
    assert summary([*jobs, *finished(waiting, within=15)]) == ONCE
    assert seconds(back) < 15
    assert not Worker.objects.filter(state="DEAD").exists()


def test_postgresql_hangs_for_longer_than_the_lease_while_jobs_finish(site: Site) -> None:
    """Scenario 56."""
    running = [submit("outage_nap", {"seconds": 3}) for _ in range(4)]
    started(running)
    site.postgres.pause()
    try:
        lasts(2 * LEASE)
    finally:
        site.postgres.resume()
    waiting = many(8)
    assert summary(finished([*running, *waiting], within=30)) == ONCE
    everybody_beats_when_a_dispatcher_may_judge_again()


def everybody_beats_when_a_dispatcher_may_judge_again() -> None:
    """It judges by silence only after a lease in which it saw the database without a break."""
    lasts(1.5 * LEASE)
    assert not Worker.objects.filter(state="DEAD").exists()
