"""Tickets that vanish, arrive six times or were never published: the dispatcher issues exactly the lost ones again."""

import json
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest
from django.db import connection, transaction

from jobs import tickets
from jobs.ids import uuid7
from jobs.models import Event, Job
from jobs.submission import submit
from jobs.tickets import Ticket
from tests.chaos import outage_tasks
from tests.fleet import ROOT
from tests.site import Site, finished, forget_connections, many, republished, reread, started, summary
from tests.waiting import eventually

TASKS = outage_tasks.__name__
ONCE = {("SUCCESS", 1)}


@pytest.fixture(scope="module", autouse=True)
def _dispatcher(site: Site) -> None:
    site.fleet.dispatcher()


@pytest.fixture
def no_worker(site: Site) -> Any:
    """Nobody takes tickets until the test starts a worker; afterwards nobody does again, and none are left."""
    yield
    Job.objects.unfinished().cancel_waiting()
    site.redis.flushall()
    for name in [name for name in site.fleet.processes if name.startswith("w")]:
        site.fleet.kill(name)
        del site.fleet.processes[name]


@pytest.fixture(params=["late", "early"])
def acknowledging(site: Site, request: pytest.FixtureRequest) -> Any:
    """Workers started meanwhile acknowledge late, as this run says, or early."""
    before = dict(site.fleet.environment)
    site.fleet.environment |= {"TASK_ACKS_LATE": "0"} if request.param == "early" else {}
    yield
    site.fleet.environment = before


def test_an_emptied_redis_costs_a_thousand_waiting_jobs_nothing_but_a_thousand_tickets(
    site: Site, no_worker: None
) -> None:
    """Scenario 4."""
    jobs = many(1000)
    assert site.waiting() == 1000
    site.redis.flushall()
    eventually(lambda: len(republished(jobs)) == 1000, within=30, what="all tickets to be issued again")
    site.fleet.worker("w")
    assert summary(finished(jobs, within=120)) == ONCE
    assert len(republished(jobs)) == 1000


def test_exactly_the_tickets_that_were_deleted_are_issued_again(site: Site, no_worker: None) -> None:
    """Scenario 6."""
    jobs = many(200)
    gone = {taken_out(site, index) for index in range(0, 150, 3)}
    assert (len(gone), site.waiting()) == (50, 150)
    eventually(lambda: republished(jobs), within=30, what="tickets to be issued again")
    site.fleet.worker("w")
    assert summary(finished(jobs, within=60)) == ONCE
    assert {str(job) for job in republished(jobs)} == gone
    assert {job.dispatch_no for job in reread(jobs)} == {1, 2}


def test_a_ticket_that_comes_six_times_starts_its_job_once(site: Site, no_worker: None) -> None:
    """Scenario 21. The copies come one after the other, while their job runs."""
    jobs = many(20, "outage_nap", {"seconds": 0.1})
    issued = site.redis.lpop("default", len(jobs))
    for raw in issued:  # type: ignore[union-attr]
        job = json.loads(raw)["headers"]["id"]
        again = [tickets.message(Ticket(job, "outage_nap", "default")) for _ in range(3)]
        site.redis.lpush("default", raw, raw, raw, *again)
    assert site.waiting() == 120
    site.fleet.worker("w", include=TASKS)
    assert summary(finished(jobs, within=30)) == ONCE
    eventually(lambda: site.waiting() == 0 and not site.redis.hlen("unacked"), within=30, what="the copies to go")
    assert summary(reread(jobs)) == ONCE
    assert site.fleet.log("w").count("job claimed") >= 20
    assert republished(jobs) == set()


@pytest.mark.usefixtures("acknowledging")
def test_a_redis_emptied_under_running_jobs_starts_none_of_them_again(site: Site, no_worker: None) -> None:
    """Scenario 5."""
    site.fleet.worker("w", size=4, include=TASKS)
    running = [submit("outage_nap", {"seconds": 4}) for _ in range(4)]
    started(running)
    waiting = many(100)
    site.redis.flushall()
    assert summary(finished([*running, *waiting], within=60)) == ONCE
    assert republished(running) == set()
    assert len(republished(waiting)) <= 100


@pytest.mark.usefixtures("acknowledging")
def test_a_ticket_in_the_hands_of_a_worker_that_is_killed_is_found_lost(site: Site, no_worker: None) -> None:
    """Scenario 7."""
    site.fleet.worker("w1")

    def is_taken_by_a_frozen_worker() -> bool:
        """Redis hands the ticket to the open BRPOP of a process that will never read it."""
        eventually(lambda: site.redis.info("clients")["blocked_clients"], within=10)  # type: ignore[index]
        site.fleet.kill("w1", signal.SIGSTOP, wait=False)
        nonlocal job
        job = submit("flaky", {"failures": 0})
        if not site.waiting():
            return True
        site.fleet.kill("w1", signal.SIGCONT, wait=False)
        finished([job], within=30)
        return False

    job: Job | None = None
    eventually(is_taken_by_a_frozen_worker, within=60, what="a ticket to be popped by the frozen worker")
    site.fleet.kill("w1")
    notes = b"".join(site.redis.hvals("unacked"))  # type: ignore[arg-type]
    assert (site.waiting(), str(job.pk).encode() in notes) == (0, False)  # type: ignore[union-attr]
    site.fleet.worker("w2")
    assert summary(finished([job], within=45)) == ONCE  # type: ignore[list-item]
    assert republished([job]) == {job.pk}  # type: ignore[list-item, union-attr]


WEB_THAT_DIES = """
import os, sys, django
django.setup()
from django.db import connection
from jobs import submission, tickets
tickets.publish = lambda batch: os._exit(9)
for job in sys.argv[1:]:
    if os.fork() == 0:
        submission.submit("flaky", {"failures": 0}, job_id=job)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 9
"""


def test_a_web_process_that_dies_between_commit_and_publish_loses_no_job(site: Site, no_worker: None) -> None:
    """Scenario 17."""
    ids = [uuid7() for _ in range(20)]
    environment = site.fleet._environment() | {"DJANGO_SETTINGS_MODULE": "config.settings"}
    command = [sys.executable, "-c", WEB_THAT_DIES, *map(str, ids)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=60)
    jobs = reread(ids)
    assert len(jobs) == 20
    site.fleet.worker("w")
    assert {(job.state, job.attempt, job.dispatch_no) for job in finished(jobs, within=45)} == {("SUCCESS", 1, 2)}


def test_under_steady_traffic_over_a_backlog_exactly_the_deleted_tickets_come_again(
    site: Site, no_worker: None
) -> None:
    """Scenario 46."""
    jobs = [job for _ in range(2) for job in many(200, "outage_nap", {"seconds": 0.02})]
    site.fleet.worker("w", include=TASKS)
    stop, later = threading.Event(), []

    def feed() -> None:
        while not stop.wait(0.02):
            later.append(submit("outage_nap", {"seconds": 0.02}))
        forget_connections()

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        gone = {taken_out(site, 20 + 2 * number) for number in range(80)}
        assert len(gone) == 80
        eventually(lambda: len(republished(jobs + later)) >= 80, within=60, what="the tickets to be issued again")
    finally:
        stop.set()
        feeder.join()
    everything = jobs + later
    assert summary(finished(everything, within=60)) == ONCE
    assert {str(job) for job in republished(everything)} == gone


def test_only_jobs_that_survive_their_savepoints_get_tickets_and_run(site: Site, no_worker: None) -> None:
    """Scenario 59."""
    with transaction.atomic():
        kept = [submit("flaky", {"failures": 0})]
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            gone = [submit("flaky", {"failures": 0}), *many(3)]
            raise ZeroDivisionError
        with transaction.atomic():
            kept += many(3)
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                gone.append(submit("flaky", {"failures": 0}, key="inner"))
                raise ZeroDivisionError
        assert site.waiting() == 0
    out = [json.loads(raw)["headers"]["id"] for raw in site.redis.lrange("default", 0, -1)]  # type: ignore[union-attr]
    assert sorted(out) == sorted(str(job.pk) for job in kept)
    assert reread(gone) == []
    site.fleet.worker("w")
    assert summary(finished(kept, within=30)) == ONCE


def test_two_dispatchers_at_once_do_no_harm_even_without_their_locks(site: Site, no_worker: None) -> None:
    """Scenario 41."""
    with connection.cursor() as cursor:
        # A search path that finds this one first takes the locks away without touching the dispatcher.
        cursor.execute("CREATE SCHEMA lockless")
        cursor.execute(
            "CREATE FUNCTION lockless.pg_try_advisory_xact_lock(bigint) RETURNS boolean LANGUAGE sql AS 'SELECT true'"
        )
        cursor.execute("SELECT current_database()")
        [database] = cursor.fetchone()
        cursor.execute(f'ALTER DATABASE "{database}" SET search_path = lockless, pg_catalog, public')
    forget_connections()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(7001)")
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
        assert cursor.fetchone() == (0,), "this connection, like those of the new dispatchers, takes no lock"
    try:
        site.fleet.dispatcher("lockless1")
        site.fleet.dispatcher("lockless2")
        lost, again = many(100), [submit("flaky", {"failures": 1}) for _ in range(50)]
        site.redis.flushall()
        late = many(50, delay=1.5)
        site.fleet.worker("w")
        assert summary(finished([*lost, *late], within=60)) == ONCE
        assert summary(finished(again, within=60)) == {("SUCCESS", 2)}
        assert Event.objects.filter(job__in=lost, verb="ticket republished").count() >= 100
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f'ALTER DATABASE "{database}" RESET search_path')
            cursor.execute("DROP SCHEMA lockless CASCADE")
        for name in ("lockless1", "lockless2"):
            site.fleet.kill(name)


def taken_out(site: Site, index: int) -> str:
    """Delete one element of the queue's list, as nothing in this project would; the job it was for."""
    raw = site.redis.lindex("default", index)
    assert isinstance(raw, bytes)
    assert site.redis.lrem("default", 1, raw) == 1  # type: ignore[arg-type]
    return json.loads(raw)["headers"]["id"]
