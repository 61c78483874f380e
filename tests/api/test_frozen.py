"""A PostgreSQL that accepts connections and answers nothing: refused soon, survived, and told from one that is slow."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median
from typing import Any

import httpx
import pytest
from django.db import connection, transaction
from django.utils import timezone

from api.pulse import ANSWER_SECONDS
from api.serving import PATIENCE_SECONDS
from jobs.models import Job
from tests.api.calling import Api, is_problem, token
from tests.api.conftest import FREELY
from tests.api.test_live import feed, run
from tests.site import Site, forget_connections
from tests.waiting import eventually

THREADS = int(FREELY["WEB_THREADS"])
# What is promised, and what others may take while other tests use the same cores.
PROMISED, SLOWEST = 2.0, 6.0
MANY = 10_000


@pytest.fixture(scope="module")
def place(site: Site) -> Iterator[tuple[Site, Api]]:
    """A web process on servers that may be frozen, without a worker."""
    with Api(site.fleet.web(**FREELY), token()) as api:
        yield site, api


@contextmanager
def frozen(site: Site) -> Iterator[None]:
    forget_connections()
    site.postgres.pause()
    try:
        yield
    finally:
        site.postgres.resume()


def refused(api: Api, method: str, path: str, body: Any = None) -> float:
    """Seconds until the refusal was there."""
    began = time.monotonic()
    answer = api.request(method, path, json=body)
    seconds = time.monotonic() - began
    assert is_problem(answer, 503, "unavailable"), path
    assert answer.json()["down"] == ["database"] and int(answer.headers["retry-after"]) > 0
    return seconds


def in_time(took: list[float]) -> bool:
    """Whether a refusal took as long as promised, and the slowest not much longer."""
    return median(took) < PROMISED and max(took) < SLOWEST


def works_again(api: Api) -> None:
    eventually(lambda: api.get("tasks").status_code == 200, within=10, what="the database to be back")
    with ThreadPoolExecutor(THREADS * 2) as callers:
        answers = list(callers.map(lambda _: api.get("queues").status_code, range(THREADS * 4)))
    assert set(answers) == {200}


def test_every_call_is_refused_within_two_seconds_and_liveness_answers(place: tuple[Site, Api]) -> None:
    site, api = place
    calls = [("GET", "tasks", None), ("POST", "tasks/bulk", [{"task_type": "slow"}]), ("GET", "workers/health", None)]
    with frozen(site):
        took = [refused(api, *call) for call in calls]
        assert httpx.get(f"{api.address}/healthz", trust_env=False).json() == {"status": "alive"}
        page = httpx.get(f"{api.address}/admin/login/", trust_env=False, cookies={"sessionid": "a" * 32})
    assert in_time(took), took
    assert page.status_code == 503 and int(page.headers["retry-after"]) > 0
    works_again(api)


def test_many_at_once_are_refused_too_and_those_that_only_queued_never_happen(place: tuple[Site, Api]) -> None:
    site, api = place
    submit = {"task_type": "slow", "tags": ["frozen"], "run_at": "2100-01-01T00:00:00Z"}
    with frozen(site), ThreadPoolExecutor(THREADS * 4) as callers:
        took = list(callers.map(lambda _: refused(api, "POST", "tasks/submit", submit), range(THREADS * 8)))
        began = time.monotonic()
        assert httpx.get(f"{api.address}/healthz", trust_env=False).is_success
        assert time.monotonic() - began < SLOWEST
        assert httpx.get(f"{api.address}/readyz", trust_env=False, timeout=30).status_code == 503
    assert in_time(took), sorted(took)
    works_again(api)
    assert Job.objects.filter(tags=["frozen"]).count() <= THREADS


def test_a_submit_that_was_refused_makes_no_second_job_under_its_key(place: tuple[Site, Api]) -> None:
    site, api = place
    submit = {"task_type": "slow", "run_at": "2100-01-01T00:00:00Z", "idempotency_key": "frozen"}
    with frozen(site):
        refused(api, "POST", "tasks/submit", submit)
    answer = eventually(lambda: _accepted(api, submit), within=10, what="the submit to be accepted")
    assert Job.objects.filter(key__key="frozen").count() == 1
    assert str(Job.objects.get(key__key="frozen").pk) == answer["task_id"]


def test_a_slow_answer_of_a_living_database_is_waited_for(place: tuple[Site, Api]) -> None:
    """The table is locked for longer than a silent database would be waited for."""
    _, api = place
    with ThreadPoolExecutor(1) as callers:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("LOCK TABLE jobs_queue IN ACCESS EXCLUSIVE MODE")
            call = callers.submit(lambda: api.get("queues").status_code)
            with pytest.raises(TimeoutError):
                call.result(timeout=3 * (PATIENCE_SECONDS + ANSWER_SECONDS))
        assert call.result(timeout=30) == 200


def test_a_long_poll_ends_in_time_with_what_was_known(place: tuple[Site, Api]) -> None:
    site, api = place
    task_id = api.waiting()
    with api.stream("GET", f"tasks/{task_id}/wait", params={"timeout": 3}) as answer, frozen(site):
        body = json.loads(answer.read())
    assert (answer.status_code, body["status"]) == (200, "PENDING")
    works_again(api)


def test_a_bulk_that_is_on_its_way_goes_on_afterwards(place: tuple[Site, Api]) -> None:
    """Its first line is answered before the freeze, and its last jobs are written after it."""
    site, api = place
    line = json.dumps({"task_type": "slow", "run_at": "2100-01-01T00:00:00Z", "tags": ["bulk"]}) + "\n"
    headers = {"Content-Type": "application/x-ndjson"}
    with api.stream("POST", "tasks/bulk", content=line * MANY, headers=headers) as answer:
        lines = answer.iter_lines()
        seen = [json.loads(next(lines))]
        with frozen(site), Api(api.address, api.token) as another:
            stood_still = timezone.now()
            refused(another, "GET", "tasks")
        seen += map(json.loads, lines)
    assert len(seen) == MANY and not any(item.get("error") for item in seen)
    written = Job.objects.filter(tags=["bulk"]).values_list("created_at", flat=True)
    assert len(written) == MANY and min(written) < stood_still < max(written)


def test_the_feed_says_so_and_goes_on(place: tuple[Site, Api]) -> None:
    site, api = place

    async def watch() -> list[bool]:
        async with feed(api.address, api.token) as socket:
            seen = ["at" in json.loads(await socket.recv())]
            site.postgres.pause()
            try:
                seen.append(json.loads(await socket.recv()).get("down") == ["database"])
            finally:
                site.postgres.resume()
            while "at" not in json.loads(await socket.recv()):
                pass
            return seen

    assert run(watch) == [True, True]


def _accepted(api: Api, submit: dict[str, Any]) -> dict[str, Any]:
    answer = api.post("tasks/submit", json=submit)
    return answer.json() if answer.status_code == 202 else {}
