"""pgqueuer, the fastest recorded peer, with batches of a hundred."""

import asyncio
import json
import os
import subprocess
import sys
from datetime import timedelta

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from benchmarks.marks import mark
from benchmarks.peers.driving import drive

URL = os.environ["DATABASE_URL"]


async def main() -> PgQueuer:
    """What `pgq run` would call; its own command fails over its log level with the typer of today."""
    queuer = PgQueuer(AsyncpgDriver(await asyncpg.connect(URL)))

    @queuer.entrypoint("noop")
    async def noop(job) -> None:
        mark(json.loads(job.payload)["at"])

    return queuer


class Producer:
    """A connection kept for all submits."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.queries = Queries(AsyncpgDriver(self.loop.run_until_complete(asyncpg.connect(URL))))

    def submit(self, payload) -> None:
        self.loop.run_until_complete(self.queries.enqueue("noop", json.dumps(payload).encode()))

    def bulk(self, payloads) -> None:
        texts = [json.dumps(payload).encode() for payload in payloads]
        for start in range(0, len(texts), 1000):
            part = texts[start : start + 1000]
            names, zeros = ["noop"] * len(part), [0] * len(part)
            self.loop.run_until_complete(self.queries.enqueue(names, part, zeros))


def prepare() -> None:
    program = [sys.executable, "-m", "pgqueuer"]
    subprocess.run([*program, "install"], env=_environment(), check=False, capture_output=True)
    loop = asyncio.new_event_loop()

    async def empty() -> None:
        connection = await asyncpg.connect(URL)
        await connection.execute("TRUNCATE pgqueuer; TRUNCATE pgqueuer_log")
        await connection.close()

    loop.run_until_complete(empty())


def _environment() -> dict[str, str]:
    return {**os.environ, "PGDSN": URL}


async def work() -> None:
    await (await main()).run(batch_size=100, dequeue_timeout=timedelta(seconds=1))


if sys.argv[1:] == ["work"]:
    uvloop.run(work())
elif __name__ == "__main__":
    producer = Producer() if sys.argv[1] != "prepare" else None
    drive(
        prepare=prepare,
        submit=producer and producer.submit,
        bulk=producer and producer.bulk,
    )
