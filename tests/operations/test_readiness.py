import json
import threading
import time
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from jobs.ids import uuid7
from jobs.processes import host
from monitoring import readiness as module
from monitoring.readiness import PARTS, readiness
from tests.making import make_worker
from tests.site import Site, forget_connections

pytestmark = pytest.mark.django_db(transaction=True)


def well() -> None:
    make_worker(id=uuid7(), queues=["high", "default", "low", "solo", "system"])
    for kind in ("dispatcher", "beat"):
        make_worker(id=uuid7(), kind=kind, name=kind)


def test_everything_there_is_ready() -> None:
    well()
    found = readiness()
    assert found.status == "ready"
    assert {part.name: part.text for part in found.parts}["workers"] == "high 1, default 1, low 1, solo 1, system 1"


def test_without_workers_requests_are_still_served_but_a_strict_probe_fails() -> None:
    answer, strict = Client().get("/readyz"), Client().get("/readyz?strict")
    assert (answer.status_code, strict.status_code) == (200, 503)
    assert answer.json()["status"] == "degraded"
    assert answer.json()["parts"]["workers"]["text"] == "no worker on high, default, low, solo, system"
    assert answer.json()["parts"]["dispatcher"] | {"seconds": 0} == {
        "name": "dispatcher", "ok": False, "seconds": 0, "text": "no dispatcher is alive",
    }  # fmt: skip


def test_a_worker_that_fell_silent_serves_nothing() -> None:
    well()
    make_worker(id=uuid7(), queues=["high"], heartbeat_at=timezone.now() - timedelta(minutes=5))
    assert "high 1" in {part.name: part.text for part in readiness().parts}["workers"]


def test_a_part_that_hangs_costs_its_time_out_and_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hang itself is made up here; a frozen PostgreSQL is below."""
    asked, answer = [], threading.Event()

    def hang() -> str:
        asked.append(1)
        answer.wait(60)
        return "late"

    monkeypatch.setitem(PARTS, "beat", (hang, 0.2))
    parts = [{part.name: part for part in readiness().parts}["beat"] for _ in range(3)]
    answer.set()
    assert [(part.ok, part.text) for part in parts] == [(False, "no answer within 0.2 s")] * 3
    assert len(asked) == 1
    assert module._in_flight["beat"].result(timeout=30) == (True, "late")


def test_liveness_asks_nobody(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert Client().get("/healthz").json() == {"status": "alive"}


def test_the_health_check_of_a_container_knows_its_own_host() -> None:
    make_worker(id=uuid7(), kind="beat", host=host())
    call_command("alive", "beat")
    make_worker(id=uuid7(), kind="dispatcher", host="another")
    with pytest.raises(CommandError, match="No dispatcher on"):
        call_command("alive", "dispatcher")
    with pytest.raises(CommandError, match="neither an address"):
        call_command("alive", "nonsense")


def test_a_frozen_database_is_unready_within_its_time_out(site: Site) -> None:
    url = site.fleet.web(ALLOWED_HOSTS="127.0.0.1")
    assert httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
    forget_connections()
    site.postgres.pause()
    try:
        began = time.monotonic()
        answer = httpx.get(f"{url}/readyz", timeout=30, trust_env=False)
        took = time.monotonic() - began
        alive = httpx.get(f"{url}/healthz", trust_env=False).status_code
    finally:
        site.postgres.resume()
    assert (answer.status_code, alive) == (503, 200)
    assert took < 9
    parts = json.loads(answer.content)["parts"]
    assert (parts["database"]["ok"], parts["broker"]["ok"]) == (False, True)
