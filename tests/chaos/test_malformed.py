"""What no worker and no table could hold: malformed list elements, and arguments that cannot be stored."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from jobs.bulk import submit_many
from jobs.drafting import draft
from jobs.errors import InvalidJob
from jobs.models import IdempotencyKey, Job
from jobs.submission import submit
from jobs.transport import QUARANTINE, QUARANTINE_SIZE
from tests.chaos.malformed import HARMLESS, KNOWN, MORE, QUARANTINED
from tests.site import Site, finished, seconds, summary
from tests.waiting import eventually

ONCE = {("SUCCESS", 1)}


@pytest.fixture(scope="module", autouse=True)
def _running(site: Site) -> None:
    site.fleet.worker("w")


@pytest.fixture(autouse=True)
def _same_worker(site: Site) -> Iterator[None]:
    """The worker reads what comes after, on the connection it had."""
    pid, children, before = site.fleet.pid("w"), site.fleet.children("w"), site.fleet.log("w")
    site.redis.delete(QUARANTINE)
    yield
    assert site.fleet.processes["w"].poll() is None
    assert (site.fleet.pid("w"), site.fleet.children("w")) == (pid, children)
    assert "Connection to broker lost" not in site.fleet.log("w").removeprefix(before)
    eventually(lambda: not site.redis.hlen("unacked"), within=9, what="every message to be acknowledged")


def test_each_of_the_known_malformed_elements_is_put_aside_and_the_next_job_runs(site: Site) -> None:
    """Scenario 35."""
    assert len(KNOWN) == 24
    for raw in KNOWN.values():
        site.redis.lpush("default", raw)
    good_job_runs_at_once()
    kept = site.redis.lrange(QUARANTINE, 0, -1)
    assert sorted(kept) == sorted(QUARANTINED.values())  # type: ignore[type-var, arg-type]
    assert len(kept) + len(HARMLESS) == 24  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MORE)
def test_more_malformed_elements_neither_stop_nor_disconnect_the_worker(site: Site, name: str) -> None:
    """Scenario 35, beyond the known shapes."""
    site.redis.lpush("default", MORE[name])
    good_job_runs_at_once()
    eventually(lambda: not site.redis.hlen("unacked"), within=10, what="the element to be dealt with")


@pytest.mark.parametrize("text", ["no JSON", "[1]", "5", "null", "{}", '{"properties": 5}', '{"body": "x"}'])
def test_garbage_on_the_channels_of_remote_control_does_not_stop_the_worker(site: Site, text: str) -> None:
    """Scenario 35, by the other road into a worker: a published message instead of a list element."""
    for channel in site.redis.pubsub_channels("*") or [b"/0.celery.pidbox"]:
        site.redis.publish(channel, text)
    site.redis.publish("/0.celery.pidbox", text)
    good_job_runs_at_once()


def test_the_quarantine_keeps_the_newest_thousand(site: Site) -> None:
    """Scenario 35."""
    site.redis.lpush("default", *(f"garbage {number}" for number in range(QUARANTINE_SIZE + 50)))
    eventually(lambda: site.waiting() == 0, within=30, what="the garbage to be read")
    good_job_runs_at_once()
    assert site.redis.llen(QUARANTINE) == QUARANTINE_SIZE
    assert site.redis.lindex(QUARANTINE, 0) == f"garbage {QUARANTINE_SIZE + 49}".encode()


def nested(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


UNSTORABLE = {
    "NUL": "a\x00b",
    "a lone surrogate": "\ud800",
    "NaN": float("nan"),
    "an infinity": float("-inf"),
    "a megabyte": "x" * 1_000_000,
    "ten thousand levels": nested(10_000),
    "a hundred and one levels": nested(101),
    "a number of five thousand digits": 10**5000,
    "bytes": b"abc",
    "a key that is a number": {5: "x"},
    "a key with NUL": {"a\x00": 1},
    "a set": {1, 2},
}


@pytest.mark.parametrize("name", UNSTORABLE)
def test_arguments_that_cannot_be_stored_are_refused_before_anything_is_written(site: Site, name: str) -> None:
    """Scenario 34."""
    jobs, keys = Job.objects.count(), IdempotencyKey.objects.count()
    payload = {"records": [{"value": UNSTORABLE[name]}], "operation": "count"}
    with pytest.raises(InvalidJob) as caught:
        submit("process_data", payload, key=f"unstorable {name}")
    assert caught.value.field.startswith("/payload")
    with pytest.raises(InvalidJob):
        submit_many([draft("flaky", {"failures": 0}), draft("process_data", payload)])
    assert (Job.objects.count(), IdempotencyKey.objects.count()) == (jobs, keys)


def good_job_runs_at_once() -> None:
    began = time.monotonic()
    job = submit("flaky", {"failures": 0})
    assert summary(finished([job], within=20)) == ONCE
    assert seconds(began) < 6
