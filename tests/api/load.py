"""A steady load of mixed submits and statuses, sent on time whatever the answers take.

python -m tests.api.load http://127.0.0.1:8000 TOKEN --rate 200 --seconds 60

With --idle the jobs are for the year 2100, so that the web process is measured and not the workers beside it.
Exits 1 when a request failed, or when the slowest 5 % took 100 ms or more.
"""

import argparse
import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

CONNECTIONS = 32
P95_SECONDS = 0.1
JOB = {"task_type": "flaky", "payload": {"failures": 0}, "tags": ["load"]}
IDLE = JOB | {"run_at": "2100-01-01T00:00:00Z"}


SUBMIT, STATUS = "submit", "status"


@dataclass
class Load:
    """What came of it: seconds from when each request was due until its answer was there, and what failed."""

    times: dict[str, list[float]] = field(default_factory=lambda: {SUBMIT: [], STATUS: []})
    errors: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        return [*self.times[SUBMIT], *self.times[STATUS]]

    def percentile(self, percent: float) -> float:
        return percentile(self.seconds, percent)

    @property
    def is_good(self) -> bool:
        return not self.errors and self.percentile(95) < P95_SECONDS

    def __str__(self) -> str:
        parts = {"all": self.seconds, **self.times}
        lines = [_line(name, seconds) for name, seconds in parts.items() if seconds]
        return "\n".join([*lines, f"errors {len(self.errors)}", *self.errors[:5]])


def percentile(seconds: list[float], percent: float) -> float:
    return sorted(seconds)[int(len(seconds) * percent / 100)]


def _line(name: str, seconds: list[float]) -> str:
    figures = ", ".join(f"p{percent} {percentile(seconds, percent) * 1000:.0f} ms" for percent in (50, 95, 99))
    return f"{name:7} {len(seconds)} requests, {figures}, max {max(seconds) * 1000:.0f} ms"


async def load(address: str, token: str, *, rate: float, seconds: float, idle: bool) -> Load:
    """Half of the requests submit a job, half ask for one that was submitted before."""
    due: asyncio.Queue[float | None] = asyncio.Queue()
    result, known, job = Load(), asyncio.LifoQueue[str](), json.dumps(IDLE if idle else JOB)
    clients = [asyncio.create_task(_client(address, token, job, due, known, result)) for _ in range(CONNECTIONS)]
    start = time.monotonic()
    for number in range(int(rate * seconds)):
        moment = start + number / rate
        await asyncio.sleep(moment - time.monotonic())
        due.put_nowait(moment)
    for _ in clients:
        due.put_nowait(None)
    await asyncio.gather(*clients)
    return result


async def _client(
    address: str, token: str, job: str, due: asyncio.Queue[float | None], known: asyncio.LifoQueue[str], result: Load
) -> None:
    place = urlsplit(address)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    head = f"Host: {place.netloc}\r\nAuthorization: Bearer {token}\r\n"
    is_submit = True
    while (moment := await due.get()) is not None:
        is_submit = not is_submit or known.empty()
        path = "submit" if is_submit else known.get_nowait()
        body = f"Content-Type: application/json\r\nContent-Length: {len(job)}\r\n\r\n{job}" if is_submit else "\r\n"
        method = "POST" if is_submit else "GET"
        writer.write(f"{method} /api/tasks/{path} HTTP/1.1\r\n{head}{body}".encode())
        status, answer = await _answer(reader)
        result.times[SUBMIT if is_submit else STATUS].append(time.monotonic() - moment)
        if status != (202 if is_submit else 200):
            result.errors.append(f"{method} {status} {answer!r}")
        else:
            known.put_nowait(json.loads(answer)["task_id"])
    writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    status, *headers = head.decode("latin1").split("\r\n")
    length = next(line.split(":")[1] for line in headers if line.lower().startswith("content-length:"))
    return int(status.split()[1]), await reader.readexactly(int(length))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("token")
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--idle", action="store_true")
    given = parser.parse_args()
    done = asyncio.run(load(given.address, given.token, rate=given.rate, seconds=given.seconds, idle=given.idle))
    print(done)
    sys.exit(0 if done.is_good else 1)
