"""How an open socket ends: each close code of the table in docs/api.md that the feed itself decides on.

Spoken to as the server speaks to it, because the real intervals are up to half a minute.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.db import connections
from django.utils import timezone

from api import serving
from api.models import ApiToken
from api.pulse import _Pulse
from monitoring import live
from tests.api.calling import person, session, token
from tests.api.test_live import run


class Client:
    """Who opens the feed with these headers."""

    def __init__(self, *, reads: bool = True, **headers: str) -> None:
        self.scope = {
            "type": "websocket",
            "path": "/ws/stats",
            "headers": [(name.encode(), text.encode()) for name, text in ({"host": "testserver"} | headers).items()],
        }
        self.reads = reads
        self.ticks: asyncio.Queue[str] = asyncio.Queue()
        self.closed: asyncio.Queue[int] = asyncio.Queue()
        self.says: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.says.put_nowait({"type": "websocket.connect"})

    async def hear(self, message: Any) -> None:
        if message["type"] == "websocket.close":
            self.closed.put_nowait(message["code"])
            self.leave(message["code"])
        elif message["type"] == "websocket.send":
            self.ticks.put_nowait(message["text"])
            if not self.reads:
                await asyncio.Event().wait()

    def leave(self, code: int = 1000) -> None:
        self.says.put_nowait({"type": "websocket.disconnect", "code": code})


@pytest.fixture(autouse=True)
def _soon(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short intervals, and nothing that belongs to the event loop of another test."""
    monkeypatch.setattr(live, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(live, "RECHECK_TICKS", 3)
    monkeypatch.setattr(live, "SEND_SECONDS", 0.2)
    monkeypatch.setattr(live, "hub", live._Hub())
    monkeypatch.setattr(serving, "_background", serving._Lane("background", 1))
    monkeypatch.setattr(serving, "pulse", _Pulse())


def ends(doomed: list[Client], spared: list[Client], then: Callable[[], object]) -> list[int]:
    """The codes the doomed are closed with once it happens; the spared are sent tick after tick as before."""

    async def everybody() -> list[int]:
        clients = [*doomed, *spared]
        served = [asyncio.create_task(live.websocket(each.scope, each.says.get, each.hear)) for each in clients]
        for client in clients:
            await client.ticks.get()
        await asyncio.to_thread(then)
        codes = [await client.closed.get() for client in doomed]
        for client in spared:
            for _ in range(2 * live.RECHECK_TICKS + client.ticks.qsize()):
                await client.ticks.get()
            assert client.closed.empty()
            client.leave()
        await asyncio.wait([*served, live.hub._ticking])
        for thread in (serving._background._threads, serving.pulse._thread):
            await asyncio.get_running_loop().run_in_executor(thread, connections.close_all)
        return codes

    return run(everybody, within=30)


def bearer(name: str) -> Client:
    return Client(authorization=f"Bearer {token('read', name=name, owner=person(name))}")


def visitor(name: str) -> tuple[Client, str]:
    """With the session of somebody who may look, and the session's key."""
    person(name, "jobs.view_job")
    with session("http://testserver", name) as browser:
        key = browser.cookies["sessionid"]
    return Client(origin="http://testserver", cookie=f"sessionid={key}"), key


def test_who_may_no_longer_look_is_told_so() -> None:
    tokens = [bearer(name) for name in ("revoked", "expired", "narrowed", "left")]
    people = {name: visitor(name) for name in ("demoted", "blinded", "logged out", "timed out")}

    def spoil() -> None:
        ApiToken.objects.filter(name="revoked").update(revoked_at=timezone.now())
        ApiToken.objects.filter(name="expired").update(expires_at=timezone.now())
        ApiToken.objects.filter(name="narrowed").update(scopes=["submit"])
        person("left", is_active=False)
        person("demoted", "jobs.view_job", is_staff=False)
        person("blinded", "api.view_apitoken")
        Session.objects.filter(pk=people["logged out"][1]).delete()
        Session.objects.filter(pk=people["timed out"][1]).update(expire_date=timezone.now())
        connections.close_all()

    doomed = [*tokens, *(client for client, _ in people.values())]
    assert ends(doomed, [bearer("stays"), visitor("stays too")[0]], spoil) == [4401] * 8


def test_who_does_not_read_is_dropped_and_keeps_nobody_waiting(secret: str) -> None:
    shown = f"Bearer {secret}"
    deaf, reader = Client(reads=False, authorization=shown), Client(authorization=shown)
    assert ends([deaf], [reader], lambda: None) == [4408]


def test_a_bug_ends_every_socket_and_is_logged(
    secret: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    clients = [Client(authorization=f"Bearer {secret}") for _ in range(3)]
    assert ends(clients, [], lambda: monkeypatch.setattr(live, "snapshot", broken)) == [1011] * 3
    [entry] = [entry for entry in caplog.records if entry.name == live.__name__]
    assert entry.exc_info is not None and entry.exc_info[0] is ZeroDivisionError
