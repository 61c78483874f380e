"""Without PostgreSQL every call is refused soon and clearly; without Redis nobody notices."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from django.conf import settings

from jobs.models import Job
from tests.api.calling import Api, is_problem, token
from tests.api.conftest import FREELY
from tests.api.test_live import feed, run
from tests.site import Site
from tests.waiting import eventually


@pytest.fixture(scope="module")
def policies(tmp_path_factory: Any) -> Path:
    """The project's, but flaky jobs may be three only."""
    text = Path(settings.POLICIES_FILE).read_text()
    before, _, after = text.partition("[flaky]\n")
    path = tmp_path_factory.mktemp("policies") / "policies.toml"
    path.write_text(f"{before}[flaky]\nmax_depth = 3\n{after}")
    return Path(path)


@pytest.fixture(scope="module")
def place(site: Site, policies: Path) -> Iterator[tuple[Site, Api]]:
    """A web process on servers that may be stopped, without a worker."""
    with Api(site.fleet.web(POLICIES_FILE=str(policies), **FREELY), token()) as api:
        yield site, api


def timed(api: Api, method: str, path: str, **options: Any) -> tuple[Any, float]:
    began = time.monotonic()
    answer = api.request(method, path, **options)
    return answer, time.monotonic() - began


def test_without_postgresql_every_call_is_503_within_two_seconds(place: tuple[Site, Api]) -> None:
    site, api = place
    task_id = api.submitted("slow")
    calls = [
        ("POST", "tasks/submit", {"task_type": "slow"}),
        ("POST", "tasks/bulk", [{"task_type": "slow"}]),
        ("GET", f"tasks/{task_id}", None),
        ("GET", "tasks", None),
        ("DELETE", f"tasks/{task_id}/cancel", None),
        ("GET", "workers/stats", None),
        ("GET", "workers/health", None),
    ]
    with site.no_postgres():
        for method, path, body in calls * 3:
            answer, seconds = timed(api, method, path, json=body)
            assert is_problem(answer, 503, "unavailable") and seconds < 2, (method, path, seconds)
            assert answer.json()["down"] == ["database"] and int(answer.headers["retry-after"]) > 0
    eventually(lambda: api.get(f"tasks/{task_id}").status_code == 200, within=10, what="the database to be back")
    assert all(api.get("tasks").status_code == 200 for _ in range(int(FREELY["WEB_THREADS"]) * 2))


def test_a_restart_of_postgresql_between_two_calls_is_not_noticed(place: tuple[Site, Api]) -> None:
    """Every thread still has a connection to the server that was."""
    site, api = place
    everybody = int(FREELY["WEB_THREADS"]) * 2
    with ThreadPoolExecutor(everybody) as callers:
        for _ in range(2):
            answers = list(callers.map(lambda _: api.get("tasks").status_code, range(everybody * 2)))
            assert set(answers) == {200}
            with site.no_postgres():
                pass


def test_the_feed_says_that_the_database_is_away_and_goes_on(place: tuple[Site, Api]) -> None:
    site, api = place

    async def watch() -> list[bool]:
        async with feed(api.address, api.token) as socket:
            seen = ["at" in json.loads(await socket.recv())]
            site.postgres.stop("immediate")
            seen.append(json.loads(await socket.recv()).get("down") == ["database"])
            site.postgres.start()
            while "at" not in json.loads(await socket.recv()):
                pass
            return seen

    assert run(watch) == [True, True]


def test_without_redis_submits_are_accepted_within_200_ms(place: tuple[Site, Api]) -> None:
    """Three times that for the slowest, because other tests may run on the same cores."""
    site, api = place
    api.submitted("slow")
    with site.no_redis():
        took = []
        for _ in range(20):
            answer, seconds = timed(api, "POST", "tasks/submit", json={"task_type": "slow", "tags": ["no redis"]})
            assert answer.status_code == 202, answer.text
            took.append(seconds)
    assert median(took) < 0.2 and max(took) < 0.6, sorted(took)
    assert Job.objects.filter(tags=["no redis"], dispatched_at=None).count() == 20


def test_health_names_the_parts_that_are_down(place: tuple[Site, Api]) -> None:
    site, api = place
    missing = ["workers", "dispatcher", "beat"]
    answer = api.get("workers/health")
    assert is_problem(answer, 503, "unavailable") and int(answer.headers["retry-after"]) > 0
    assert answer.json()["down"] == missing and answer.json()["parts"]["database"] == "answers"
    with site.no_redis():
        answer = api.get("workers/health")
    assert is_problem(answer, 503, "unavailable") and answer.json()["down"] == ["broker", *missing]
    assert answer.json()["parts"]["broker"] == "Redis does not answer"


def test_a_redis_that_hangs_costs_one_second_once(place: tuple[Site, Api]) -> None:
    site, api = place
    site.valkey.pause()
    try:
        took = [timed(api, "POST", "tasks/submit", json={"task_type": "slow"})[1] for _ in range(10)]
    finally:
        site.valkey.resume()
    assert max(took) < 3 and sorted(took)[5] < 0.6


def test_a_full_queue_refuses_with_503_and_says_when_to_try_again(place: tuple[Site, Api]) -> None:
    _, api = place
    Job.objects.unfinished().cancel_waiting()
    answers = [api.submit(run_at="2100-01-01T00:00:00Z") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 503]
    assert is_problem(answers[3], 503, "queue-full") and int(answers[3].headers["retry-after"]) > 0


@pytest.mark.parametrize("path", ["tasks/bulk", "tasks/bulk?atomic=true"])
@pytest.mark.parametrize("form", ["application/json", "application/x-ndjson"])
def test_many_that_a_queue_cannot_hold_are_refused_together(place: tuple[Site, Api], path: str, form: str) -> None:
    _, api = place
    Job.objects.unfinished().cancel_waiting()
    job = json.dumps({"task_type": "flaky", "run_at": "2100-01-01T00:00:00Z", "tags": ["too many"]})
    content = f"[{job}, {job}, {job}, {job}]" if form.endswith("/json") else f"{job}\n" * 4
    answer = api.post(path, content=content, headers={"Content-Type": form})
    assert is_problem(answer, 503, "queue-full") and int(answer.headers["retry-after"]) > 0
    assert not Job.objects.filter(tags=["too many"]).exists()
