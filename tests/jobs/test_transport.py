"""Each fault of kombu that jobs.transport works around: kombu still has it, and our transport does not.

When a test about kombu fails, the fault was mended upstream and its work-around can go.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from local.postgres import Postgres
from local.valkey import Valkey
from tests.chaos.malformed import DROPPED, LOOPING, RESTORED
from tests.fleet import ROOT
from tests.waiting import eventually

OURS = "jobs.transport:Transport"
READY, READ = "ready.", "a good message was read"
CONNECTION_LOST = "Connection to broker lost"


class StockWorker:
    """A worker of tests.jobs.stock on a database of its own, and what it wrote."""

    def __init__(self, place: Path, url: str, transport: str = "") -> None:
        self.redis, self.database = redis.Redis.from_url(url), url.rpartition("/")[2]
        self.redis.flushdb()
        self.url, self._transport, self._log = url, transport, place / f"{self.database}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, size: int = 1) -> None:
        ours = {"STOCK_BROKER": self.url, "STOCK_TRANSPORT": self._transport}
        inherited = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
        command = [sys.executable, "-m", "celery", "-A", "tests.jobs.stock", "worker", "-c", str(size), "-l", "INFO"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--without-mingle"], cwd=ROOT, env=inherited | ours, stdout=log, stderr=log
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def exit_code(self) -> int | None:
        return self.process.poll() if self.process else None

    def says(self, text: str, *, times: int = 1, within: float = 60) -> None:
        eventually(lambda: self.log.count(text) >= times, within=within, what=f"{text!r} in {self._log}")

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()


Start = Callable[..., StockWorker]


@pytest.fixture
def valkey(own_servers: tuple[Postgres, Valkey]) -> Valkey:
    return own_servers[1]


@pytest.fixture
def worker(valkey: Valkey, tmp_path: Path) -> Iterator[Start]:
    """Makes workers; each is on the next of the server's databases."""
    made: list[StockWorker] = []

    def make(transport: str = "") -> StockWorker:
        made.append(StockWorker(tmp_path, valkey.url.removesuffix("0") + str(len(made) + 1), transport))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def send(worker: StockWorker, task: str, *args: Any) -> None:
    """As any client would; importing the workers' application here would give this process its tasks."""
    client = Celery("client", broker=worker.url, set_as_current=False)
    with client.connection_for_write() as connection:
        client.send_task(task, args=args, connection=connection, queue="default")


def test_kombu_still_lets_nine_malformed_elements_end_a_worker_and_one_make_it_reconnect_for_ever(
    worker: Start,
) -> None:
    workers = {name: worker() for name in DROPPED | RESTORED | LOOPING}
    for name, each in workers.items():
        each.redis.lpush("default", (DROPPED | RESTORED | LOOPING)[name])
        each.start()
    ending = {name: each for name, each in workers.items() if name not in LOOPING}
    for each in ending.values():
        eventually(lambda each=each: each.exit_code is not None, within=60, what="the worker to end")  # type: ignore[misc]
    assert {name: each.exit_code for name, each in ending.items()} == dict.fromkeys(ending, 1)
    left = {name for name, each in ending.items() if each.redis.llen("default") or each.redis.hlen("unacked")}
    assert left == set(RESTORED)
    for name in LOOPING:
        workers[name].says(CONNECTION_LOST, times=5)


def test_our_transport_reads_past_all_of_them(worker: Start) -> None:
    ours = worker(OURS)
    ours.redis.lpush("default", *(DROPPED | RESTORED | LOOPING).values())
    ours.start()
    send(ours, "flaky")
    ours.says(READ)
    assert ours.exit_code is None
    assert CONNECTION_LOST not in ours.log
    assert ours.redis.llen("jobs:malformed") == 10


def test_kombu_still_lets_one_published_message_end_every_worker(worker: Start) -> None:
    stock, ours = worker(), worker(OURS)
    for each in (stock, ours):
        each.start()
    for each in (stock, ours):
        each.says(READY)
        eventually(lambda each=each: each.redis.pubsub_numpat(), within=20)  # type: ignore[misc]
        each.redis.publish(f"/{each.database}.celery.pidbox", "[1]")
    eventually(lambda: stock.exit_code is not None, within=30, what="the stock worker to end")
    assert stock.exit_code == 1
    send(ours, "flaky")
    ours.says(READ)
    assert ours.exit_code is None


def test_kombu_still_lets_a_restart_of_redis_end_a_worker_with_a_late_acknowledged_task(
    worker: Start, valkey: Valkey
) -> None:
    """One task outlasts the outage, the other ends in the middle of it; a free slot keeps a BRPOP open meanwhile."""
    naps = {worker(): 12, worker(): 1.5, worker(OURS): 12, worker(OURS): 1.5}
    for each in naps:
        each.start(size=2)
    for each, seconds in naps.items():
        each.says(READY)
        send(each, "nap", seconds)
        each.says("a nap began")
    stock, ours = list(naps)[:2], list(naps)[2:]
    valkey.stop()
    down = time.monotonic()
    eventually(lambda: time.monotonic() - down > 4, within=10)
    valkey.start()
    for each in stock:
        eventually(lambda each=each: each.exit_code is not None, within=40, what="the stock worker to end")  # type: ignore[misc]
    assert [each.exit_code for each in stock] == [1, 1]
    for each in ours:
        send(each, "flaky")
        each.says(READ)
    assert [each.exit_code for each in ours] == [None, None]
