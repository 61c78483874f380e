import threading
import time
from concurrent.futures import wait
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.utils import timezone

from api.models import SCOPES
from jobs.ids import uuid7
from jobs.models import Worker
from jobs.processes import host
from jobs.tickets import reading_client
from local.readiness import free_port
from monitoring import readiness as module
from monitoring.readiness import ESSENTIAL, PARTS, readiness
from tests.api.calling import person, token
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
    assert answer.json() == strict.json() == {"status": "degraded"}


def test_only_who_may_look_is_told_the_parts() -> None:
    browser = Client()
    browser.force_login(person())
    callers = [
        browser.get("/readyz?strict"),
        *(Client(headers={"Authorization": f"Bearer {token(scope)}"}).get("/readyz?strict") for scope in SCOPES),
    ]
    assert [answer.status_code for answer in callers] == [503] * 5
    assert ["parts" in answer.json() for answer in callers] == [True, *(scope == "read" for scope in SCOPES)]
    for answer in callers[:2]:
        assert answer.json()["parts"]["workers"]["text"] == "no worker on high, default, low, solo, system"
        assert answer.json()["parts"]["dispatcher"] | {"seconds": 0} == {
            "name": "dispatcher", "ok": False, "seconds": 0, "text": "no dispatcher is alive",
        }  # fmt: skip
    browser.force_login(person("blind", "api.view_apitoken"))
    assert browser.get("/readyz").json() == {"status": "degraded"}


def no(name: str) -> str:
    """What a part says that is the only one to say no, having asked the probes as well."""
    found = readiness()
    assert [part.name for part in found.parts if not part.ok] == [name]
    codes = Client().get("/readyz").status_code, Client().get("/readyz?strict").status_code
    assert codes == (503 if name in ESSENTIAL else 200, 503)
    return next(part.text for part in found.parts if part.name == name)


@pytest.mark.parametrize("kind", ["dispatcher", "beat"])
def test_a_process_that_is_missing_is_named(kind: str) -> None:
    well()
    Worker.objects.filter(kind=kind).delete()
    assert no(kind) == f"no {kind} is alive"


def test_without_redis_requests_are_still_served(settings: Any) -> None:
    well()
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    reading_client.cache_clear()
    try:
        assert no("broker") == "Redis does not answer"
    finally:
        reading_client.cache_clear()


def test_a_migration_that_is_not_applied_is_unready() -> None:
    well()
    recorder = MigrationRecorder(connection)
    app, name = MigrationLoader(connection).graph.leaf_nodes("monitoring")[0]
    recorder.record_unapplied(app, name)
    try:
        assert no("migrations") == "1 migrations are not applied"
    finally:
        recorder.record_applied(app, name)


def test_a_worker_that_fell_silent_serves_nothing() -> None:
    well()
    make_worker(id=uuid7(), queues=["high"], heartbeat_at=timezone.now() - timedelta(minutes=5))
    assert "high 1" in {part.name: part.text for part in readiness().parts}["workers"]


LIMITS = {"database": 2, "migrations": 3, "broker": 2, "workers": 2, "dispatcher": 2, "beat": 2}


def test_every_part_that_hangs_is_given_up_after_its_own_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    for name, (_, limit) in PARTS.items():
        monkeypatch.setitem(PARTS, name, (lambda: str(answer.wait(60)), limit))
    began = time.monotonic()
    found = readiness()
    took = time.monotonic() - began
    answer.set()
    wait(module._in_flight.values(), timeout=30)
    assert {part.name: part.text for part in found.parts} == {
        name: f"no answer within {limit} s" for name, limit in LIMITS.items()
    }
    assert max(LIMITS.values()) <= took < 3 * max(LIMITS.values())


@pytest.mark.parametrize("name", LIMITS)
def test_a_part_that_hangs_costs_its_time_out_and_one_thread(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hang itself is made up here; a frozen PostgreSQL and a frozen Redis are below."""
    asked, answer = [], threading.Event()

    def hang() -> str:
        asked.append(1)
        answer.wait(60)
        return "late"

    monkeypatch.setitem(PARTS, name, (hang, 0.1))
    found = [{part.name: part for part in readiness().parts} for _ in range(2)]
    answer.set()
    assert [(parts[name].ok, parts[name].text) for parts in found] == [(False, "no answer within 0.1 s")] * 2
    assert len(asked) == 1
    assert module._in_flight[name].result(timeout=30) == (True, "late")


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


@pytest.fixture(scope="module")
def web(site: Site) -> str:
    return site.fleet.web(ALLOWED_HOSTS="127.0.0.1")


def asked(web: str) -> tuple[int, float]:
    """The code of /readyz, and the seconds it took."""
    began = time.monotonic()
    return httpx.get(f"{web}/readyz", timeout=30, trust_env=False).status_code, time.monotonic() - began


def refusals() -> dict[str, str]:
    """What the parts say that say no, by name: asked here, since a process that is unready names none."""
    return {part.name: part.text for part in readiness().parts if not part.ok}


def test_a_frozen_database_is_unready_within_its_time_out(site: Site, web: str) -> None:
    assert asked(web)[0] == 200
    forget_connections()
    site.postgres.pause()
    try:
        code, took = asked(web)
        alive = httpx.get(f"{web}/healthz", trust_env=False).status_code
        no = refusals()
    finally:
        site.postgres.resume()
    assert (code, alive) == (503, 200)
    assert took < 9
    assert no == {name: f"no answer within {limit} s" for name, limit in LIMITS.items() if name != "broker"}


def test_a_frozen_redis_costs_no_request_and_is_named(site: Site, web: str) -> None:
    site.valkey.pause()
    try:
        code, took = asked(web)
        no = refusals()
    finally:
        site.valkey.resume()
    assert (code, no["broker"]) == (200, "no answer within 2 s")
    assert took < 6 and "database" not in no


def test_a_database_that_takes_no_writes_is_unready(site: Site, web: str) -> None:
    """A restart as a standby, as a failover to the wrong side would leave it."""
    signal = site.postgres.data / "standby.signal"
    with site.no_postgres():
        signal.touch()
    try:
        code, _ = asked(web)
        no = refusals()
    finally:
        with site.no_postgres():
            signal.unlink()
    assert (code, no["database"]) == (503, "PostgreSQL is a standby: it takes no writes")
