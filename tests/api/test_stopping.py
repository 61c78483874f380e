"""A web process that is told to stop answers whoever waits, closes its sockets, and is gone within seconds."""

import asyncio
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.api.calling import Api
from tests.api.test_live import feed, run
from tests.fleet import Fleet

# The wish is 5 s.
GONE_WITHIN = 15
RESTARTING, SOCKETS, POLLS = 1012, 20, 20


@pytest.fixture
def another(house: Fleet) -> Iterator[str]:
    """A second web process, to be stopped."""
    yield house.web("web-to-stop")
    house.kill("web-to-stop")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sockets_are_closed_and_long_polls_answered(house: Fleet, another: str, api: Api, number: int) -> None:
    task_id = api.waiting()
    address = f"{another}/api/tasks/{task_id}/wait?timeout=60"
    headers = {"Authorization": f"Bearer {api.token}"}

    async def followed(client: httpx.AsyncClient, waiting: asyncio.Semaphore) -> dict[str, Any]:
        async with client.stream("GET", address) as answer:
            waiting.release()
            return {"code": answer.status_code, **httpx.Response(200, content=await answer.aread()).json()}

    async def everybody() -> tuple[list[int], list[dict[str, Any]]]:
        sockets = [await feed(another, api.token) for _ in range(SOCKETS)]
        await asyncio.gather(*(socket.recv() for socket in sockets))
        waiting = asyncio.Semaphore(0)
        async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=90) as client:
            polls = [asyncio.create_task(followed(client, waiting)) for _ in range(POLLS)]
            for _ in range(POLLS):
                await waiting.acquire()
            house.kill("web-to-stop", number, wait=False)
            async with asyncio.timeout(GONE_WITHIN):
                await asyncio.to_thread(house.processes["web-to-stop"].wait)
                return [await _closed(socket) for socket in sockets], await asyncio.gather(*polls)

    codes, answers = run(everybody)
    assert codes == [RESTARTING] * SOCKETS
    assert [(answer["code"], answer["status"]) for answer in answers] == [(200, "PENDING")] * POLLS
    assert "Traceback" not in house.log("web-to-stop")


async def _closed(socket: Any) -> int:
    """The code it was closed with."""
    try:
        while True:
            await socket.recv()
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 1006
