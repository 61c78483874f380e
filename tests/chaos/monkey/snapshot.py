"""Scenario 51: a transaction held open under load. Claims must not get much slower, and doctor must name it."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator

from local.place import CHECKOUT
from tests.chaos.monkey.stage import Stage
from tests.chaos.monkey.steps import Check
from tests.chaos.monkey.switchyard import Switchyard

WINDOW = 60.0
WAITING = 4000
LEAST_SHARE = 0.7
_CLAIMED = "SELECT coalesce(sum(attempt), 0) FROM jobs_job"


def old_snapshot(stage: Stage, minutes: float) -> Iterator[Check]:
    """A transaction held open for ten minutes under load: claims at 0.7 of their rate or more, doctor names it."""
    system = Switchyard(stage, numbers={})
    system.enlist_dispatcher("dispatcher-1")
    for name in ("worker-1", "worker-2"):
        system.enlist_worker(name, "high,default,low,solo,system", "2")
    stage.crew.enlist("watch", "manage.py", "watch", environment=system.environment)
    system.await_up(4)
    _work(system, 10.0)
    before = _work(system, WINDOW)
    with stage.database() as holder:
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT count(*) FROM jobs_job")
        _work(system, max(0.0, 60 * minutes - WINDOW))
        after = _work(system, WINDOW)
        print(f"  claims a second: {before:.1f} before, {after:.1f} in the last minute under the old snapshot")
        named = [finding["text"] for finding in _doctor(system) if finding["level"] != "OK"]
        told = (stage.crew.logs / "watch.log").read_text(errors="replace").count("OldSnapshot")
        holder.execute("ROLLBACK")
    yield Check("share of the claim rate that is left", round(after / before, 2), LEAST_SHARE, at_least=True)
    yield Check("findings of doctor that name the transaction", sum("transaction of pid" in text for text in named), 1)
    yield Check("lines of watch that name it", told, 1, at_least=True)


def _work(system: Switchyard, seconds: float) -> float:
    """Claims a second over this time, with work always waiting."""
    began, claimed, tickets = time.monotonic(), system.ask(_CLAIMED), system.stage.redis()
    while (passed := time.monotonic() - began) < seconds:
        system.stage.crew.keep()
        # Redis tells: to count rows would read all that the snapshot keeps, and be measured along.
        if (missing := WAITING - tickets.llen("default")) > WAITING // 2:
            system.project.submit_equal("monkey_short", {}, missing)
        time.sleep(0.5)
    return float((system.ask(_CLAIMED) - claimed) / passed) if passed else 0.0


def _doctor(system: Switchyard) -> list[dict[str, str]]:
    command = [sys.executable, "manage.py", "doctor", "--json"]
    environment = system.stage.crew.inherited() | system.environment
    asked = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    found: list[dict[str, str]] = json.loads(asked.stdout)
    return found
