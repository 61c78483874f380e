"""One run: the plan against a system, then quiet until everything submitted is final or the time is up."""

import time
from dataclasses import dataclass

import psycopg

from tests.chaos.monkey.evidence import Evidence
from tests.chaos.monkey.faults import Monkey
from tests.chaos.monkey.plan import Plan
from tests.chaos.monkey.submitter import Submitter
from tests.chaos.monkey.systems import System

TURN = 0.05
SAY_EVERY = 10.0
LOOK_EVERY = 2.0


@dataclass
class Run:
    """What a run left behind, and how long the system took to come to rest after the last fault."""

    evidence: Evidence
    monkey: Monkey
    refusals: int
    slowest_submit: float
    settled_in: float
    restarts: int
    left_in_redis: int


def perform(plan: Plan, system: System, *, patience: float) -> Run:
    print(f"Starting {system.name} ...")
    system.begin()
    submitter = Submitter(system, plan.orders)
    monkey = Monkey(system, submitter.accepted)
    submitter.start()
    try:
        _strike(plan, monkey, submitter)
        settled_in = _await_rest(monkey, submitter, patience)
    finally:
        submitter.stop()
    if submitter.error is not None:
        raise submitter.error
    evidence = system.evidence(submitter.accepted)
    restarts, left = system.stage.crew.restarts(), _left_in_redis(system)
    return Run(evidence, monkey, submitter.refusals, submitter.slowest, settled_in, restarts, left)


def _strike(plan: Plan, monkey: Monkey, submitter: Submitter) -> None:
    began, waiting, watch = time.monotonic(), list(plan.faults), _Watch(monkey.system, submitter)
    while (passed := time.monotonic() - began) < plan.seconds or submitter.is_busy():
        monkey.system.stage.crew.keep()
        monkey.undo_due()
        while waiting and waiting[0].at <= passed:
            monkey.strike(waiting.pop(0))
        watch.turn(passed, f"{len(plan.faults) - len(waiting)} of {len(plan.faults)} faults")
        time.sleep(TURN)


def _await_rest(monkey: Monkey, submitter: Submitter, patience: float) -> float:
    """Seconds until nothing was unfinished any more; all of `patience` when something still is."""
    began, watch = time.monotonic(), _Watch(monkey.system, submitter)
    monkey.undo_due(everything=True)
    while (passed := time.monotonic() - began) < patience:
        monkey.system.stage.crew.keep()
        watch.turn(passed, "no more faults")
        if monkey.system.unfinished(submitter.accepted) == 0:
            break
        time.sleep(0.25)
    return passed


def _left_in_redis(system: System) -> int:
    """Messages that wait, or that a worker has taken and not acknowledged: those could still come to something."""
    with system.stage.redis() as client:
        return sum(int(client.llen(queue)) for queue in system.queues) + int(client.hlen("unacked"))


class _Watch:
    """Says how it goes, and looks for what must not last."""

    def __init__(self, system: System, submitter: Submitter) -> None:
        self.system, self.submitter = system, submitter
        self._said_at = self._looked_at = 0.0

    def turn(self, passed: float, what: str) -> None:
        now = time.monotonic()
        try:
            if now - self._looked_at >= LOOK_EVERY and self.system.stage.postgres.is_running():
                self._looked_at = now
                self.system.look()
            if now - self._said_at >= SAY_EVERY:
                self._said_at = now
                print(f"  {passed:5.0f} s  {len(self.submitter.accepted)} submitted, {self._finished()} final, {what}")
        except psycopg.OperationalError:
            print(f"  {passed:5.0f} s  {len(self.submitter.accepted)} submitted, PostgreSQL is away, {what}")

    def _finished(self) -> str:
        return str(self.system.finished()) if self.system.stage.postgres.is_running() else "?"
