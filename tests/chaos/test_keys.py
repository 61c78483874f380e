"""Idempotency keys: fifty at once, rolled back, and outlived by their job."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from django.db import transaction
from django.db.models.functions import Now

from jobs.errors import KeyReused
from jobs.models import IdempotencyKey, Job
from jobs.retention import retire
from jobs.submission import submit
from local.readiness import free_port
from tests.chaos import outage_tasks
from tests.fleet import ROOT
from tests.site import Site, finished, forget_connections, reread, started
from tests.waiting import eventually


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: Any) -> Iterator[str]:
    """The sandbox's payment gateway, which notes every call and charges a key once."""
    port, directory = free_port(), tmp_path_factory.mktemp("gateway")
    command = [sys.executable, "-m", "local.gateway", "--port", str(port), "--directory", str(directory), "--fail", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: answers(url), within=20, what="the gateway to listen")
        yield url
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module", autouse=True)
def _running(site: Site, gateway: str) -> None:
    site.fleet.environment["PAYMENT_GATEWAY_URL"] = gateway
    site.fleet.dispatcher()
    site.fleet.worker("w", include=outage_tasks.__name__)


def test_fifty_submits_of_one_key_at_once_are_one_job_that_runs_once(site: Site) -> None:
    """Scenario 38."""
    jobs = at_once(50, lambda _: submit("flaky", {"failures": 0}, key="fifty"))
    assert len({job.pk for job in jobs}) == 1
    assert [job.replayed for job in jobs].count(False) == 1
    with pytest.raises(KeyReused) as caught:
        submit("flaky", {"failures": 1}, key="fifty")
    assert caught.value.job_id == jobs[0].pk
    [job] = finished([jobs[0]], within=30)
    assert (job.state, job.attempt, Job.objects.count()) == ("SUCCESS", 1, 1)


def test_when_the_first_of_many_rolls_back_one_of_the_others_makes_the_job(site: Site) -> None:
    """Scenario 38."""
    first_is_in, others_wait = threading.Event(), threading.Event()

    def work(number: int) -> Any:
        if number:
            first_is_in.wait(20)
            others_wait.set()
            return submit("flaky", {"failures": 0}, key="rolled back")
        with transaction.atomic():
            gone = submit("flaky", {"failures": 0}, key="rolled back")
            first_is_in.set()
            others_wait.wait(20)
            transaction.set_rollback(True)
        return gone

    gone, *others = at_once(20, work)
    assert len({job.pk for job in others}) == 1
    assert others[0].pk != gone.pk
    assert reread([gone]) == []
    assert finished([others[0]], within=30)[0].attempt == 1


def test_a_key_that_expires_under_its_running_job_stays_that_jobs(site: Site, gateway: str) -> None:
    """Scenario 55."""
    job = submit("outage_charge", {"seconds": 3}, key="long lived")
    [running] = started([job])
    IdempotencyKey.objects.filter(key="long lived").update(expires_at=Now())
    eventually(lambda: calls(gateway, "long lived") == 1, within=20, what="the first charge")
    site.fleet.kill("w")
    site.fleet.worker("w2", include=outage_tasks.__name__)
    eventually(lambda: Job.objects.get(pk=job.pk).state == "RETRY", within=30, what="its worker's death to be seen")
    again = submit("outage_charge", {"seconds": 3}, key="long lived")
    assert (again.pk, again.replayed) == (job.pk, True)
    retire(dry_run=False)
    [job] = finished([job], within=45)
    assert (job.state, job.attempt, job.deaths, job.idempotency_key) == ("SUCCESS", 2, 1, "long lived")
    assert running.worker_id != job.worker_id
    assert httpx.get(f"{gateway}/charges/long%20lived").json() == {"key": "long lived", "charged": 1, "calls": 2}
    assert httpx.get(f"{gateway}/charges").json()["keys"] == 1


def calls(gateway: str, key: str) -> int:
    return httpx.get(f"{gateway}/charges/{key.replace(' ', '%20')}").json()["calls"]


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/charges").is_success
    except httpx.TransportError:
        return False


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run `work` in threads that all start together, each with connections of its own."""
    barrier = threading.Barrier(count)

    def run(number: int) -> Any:
        try:
            barrier.wait(20)
            return work(number)
        finally:
            forget_connections()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))
