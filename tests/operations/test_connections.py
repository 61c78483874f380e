"""Connections to PostgreSQL per kind of process: docs/operations.md plans with these numbers."""

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from django.db import connection

from jobs.models import Job
from jobs.submission import submit
from tests.api.calling import token
from tests.fleet import ROOT, Fleet
from tests.site import many
from tests.waiting import eventually

CHILDREN, THREADS = 2, 4
MOST = {
    "web": THREADS + 2 + 6,
    "worker": 2 * CHILDREN + 4,
    "dispatcher": 4,
    "beat": 4,
    "watch": 4,
}


@pytest.fixture(scope="module")
def address(fleet: Fleet) -> str:
    """Everything that connects, each under a name that PostgreSQL is told."""
    fleet.environment |= {"WEB_THREADS": str(THREADS), "WATCH_SECONDS": "0.2", "PGAPPNAME": "worker"}
    fleet.launch_worker("worker", queues="high,default,low,solo,system", size=CHILDREN)
    for name, command in {
        "dispatcher": ["manage.py", "dispatcher", "--name", "dispatcher"],
        "watch": ["manage.py", "watch", "--name", "watch"],
        "beat": ["-m", "celery", "-A", "config", "beat"],
    }.items():
        fleet.environment["PGAPPNAME"] = name
        fleet.launch(name, command)
    fleet.environment["PGAPPNAME"] = "web"
    web = fleet.web(ALLOWED_HOSTS="127.0.0.1")
    fleet.enlisted("worker")
    return web


def connected() -> Counter[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT application_name, count(*) FROM pg_stat_activity WHERE datname = current_database() GROUP BY 1"
        )
        return Counter(dict(cursor.fetchall()))


def test_no_process_has_more_connections_than_are_planned_for(address: str) -> None:
    """While all of them are busy: jobs run, pages are asked for, and so is readiness."""
    most: Counter[str] = Counter()
    many(100)
    for _ in range(20):
        submit("process_data", {"records": [{"id": 1, "value": 1}]})
    allowed = {"Authorization": f"Bearer {token()}"}
    with httpx.Client(trust_env=False, timeout=60, headers=allowed) as client, ThreadPoolExecutor(8) as callers:

        def over() -> bool:
            nonlocal most
            asking = [callers.submit(client.get, f"{address}/{path}") for path in ("readyz", "api/tasks") * 4]
            while not all(each.done() for each in asking):
                most |= connected()
            return most.keys() >= MOST.keys() and not Job.objects.unfinished().exists()

        eventually(over, within=120, what="the jobs to end, and every process to have connected")
    assert {name: most[name] for name in MOST if most[name] > MOST[name]} == {}
    # Each child has its own at least, and so has the heartbeat.
    assert most["worker"] > CHILDREN and most["web"] > 1


def test_the_document_says_the_same() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    assert re.search(r"^\| web \| `WEB_THREADS` \+ 2, \+ up to 6 while `/readyz` is asked \|$", text, re.MULTILINE)
    assert re.search(r"^\| worker \| 2 per child .* \+ 4 \|$", text, re.MULTILINE)
    assert "| dispatcher, beat, watch | 4 each |" in text
