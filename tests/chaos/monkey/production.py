"""The checks with production's own numbers: a killed parent, a flushed Redis, a queue that stays deep."""

import signal
import time
from collections.abc import Iterator
from typing import Any

from tests.chaos.monkey.crew import send
from tests.chaos.monkey.evidence import install_audit
from tests.chaos.monkey.stage import Stage
from tests.chaos.monkey.steps import Check, until
from tests.chaos.monkey.switchyard import Switchyard
from tests.chaos.monkey.verdict import extra_tickets

QUEUED, DEEP = 1000, 20_000
TICKETS = "SELECT count(*) FROM chaos_ticket WHERE why <> 'given back'"
AGAIN = "SELECT count(*) FROM jobs_event WHERE verb = 'ticket republished'"
FINISHED = "SELECT count(*) FROM jobs_job WHERE state = 'SUCCESS'"
STARTED = "SELECT count(*) FROM jobs_job WHERE state = 'STARTED'"
FIRST_STARTS = "SELECT count(*) FROM jobs_job WHERE attempt = 1 AND state = 'SUCCESS'"


def parent_kill(stage: Stage, _minutes: float) -> Iterator[Check]:
    """kill -9 of a worker's parent with 4 jobs running: all finished within 45 s of its restart."""
    system = _begin(stage)
    system.enlist_worker("worker-1", "high,default,low,solo,system", "4")
    system.await_up(2)
    jobs = system.project.submit_equal("monkey_long", {"seconds": 20.0}, 4)
    until(lambda: system.ask(STARTED) == 4, within=60)
    send(stage.crew.family("worker-1")[:1], signal.SIGKILL)
    until(lambda: stage.crew.restarts("worker") == 1, within=30, meanwhile=stage.crew.keep)
    restarted = time.monotonic()
    until(lambda: system.ask(FINISHED) == 4, within=120, meanwhile=stage.crew.keep)
    passed = time.monotonic() - restarted
    attempts = system.ask("SELECT string_agg(attempt::text, ' ') FROM jobs_job")
    yield Check("jobs finished", system.ask(FINISHED), len(jobs))
    yield Check("their attempts", attempts, "2 2 2 2")
    yield Check("seconds after the restart", round(passed, 1), 45, at_most=True)


def flushall(stage: Stage, _minutes: float) -> Iterator[Check]:
    """FLUSHALL with 1,000 queued: all finished at the first attempt, exactly 1,000 tickets issued again."""
    system = _begin(stage)
    system.project.submit_equal("monkey_short", {}, QUEUED)
    with stage.redis() as client:
        queued = client.llen("default")
        client.flushall()
    flushed = time.monotonic()
    system.enlist_worker("worker-1", "high,default,low,solo,system", "4")
    until(lambda: system.ask(STARTED) + system.ask(FINISHED) > 0, within=90, meanwhile=stage.crew.keep)
    first = time.monotonic() - flushed
    until(lambda: system.ask(FINISHED) == QUEUED, within=120, meanwhile=stage.crew.keep)
    yield Check("tickets in the queue before", queued, QUEUED)
    yield Check("jobs finished at their first attempt", system.ask(FIRST_STARTS), QUEUED)
    yield Check("tickets issued again", system.ask(AGAIN), QUEUED)
    yield Check("tickets issued in all", system.ask(TICKETS), 2 * QUEUED)
    yield Check("seconds from FLUSHALL to the first start", round(first, 1), 12, at_most=True)


def deep_queue(stage: Stage, minutes: float) -> Iterator[Check]:
    """Scenario 39: 20,000 queued before one consumer for ten minutes: not one ticket too many."""
    system = _begin(stage)
    system.project.submit_equal("monkey_nap", {"seconds": 0.05}, DEEP)
    system.enlist_worker("worker-1", "default", "1")
    system.await_up(2)
    print(f"  one consumer works for {minutes:g} minutes")
    ends = time.monotonic() + 60 * minutes
    while time.monotonic() < ends:
        stage.crew.keep()
        time.sleep(0.5)
    evidence = system.evidence({})
    done = system.ask(FINISHED)
    yield Check("still queued at the end", DEEP - done, 1, at_least=True)
    yield Check("finished meanwhile", done, 1, at_least=True)
    yield Check("tickets issued", system.ask(TICKETS), DEEP)
    yield Check("tickets issued again", system.ask(AGAIN), 0)
    yield Check("extra tickets", len(extra_tickets(evidence)), 0)


def _begin(stage: Stage) -> Switchyard:
    """A migrated database and one dispatcher, with the numbers that ship."""
    system = Switchyard(stage, numbers={})
    install_audit(stage.postgres.url)
    system.enlist_dispatcher("dispatcher-1")
    system.await_up(1)
    return system


PRODUCTION: dict[str, Any] = {"parent-kill": parent_kill, "flushall": flushall, "deep-queue": deep_queue}
