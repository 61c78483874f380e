"""The live feed: `WS /ws/stats` sends a snapshot every two seconds to whoever may look.

No channel layer: each process asks the database once per tick, for all its clients, and only while it has any.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import URLRouter
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.middleware import SessionMiddleware
from django.db import Error as DjangoError
from django.http import HttpRequest, HttpResponse
from django.http.cookie import parse_cookie
from django.http.request import split_domain_port, validate_host
from django.urls import path, re_path

from api.models import ApiToken
from api.serving import in_background
from monitoring.snapshot import snapshot

logger = logging.getLogger(__name__)
TICK_SECONDS = 2.0
SEND_SECONDS = 10
# A session or token that may no longer look is noticed this many ticks later.
RECHECK_TICKS = 15
REVOKED, TOO_SLOW, BROKEN, TRY_AGAIN = 4401, 4408, 1011, 1013
AWAY = "The database does not answer."


class Caller(NamedTuple):
    """What a client showed, and how to find out whether whoever shows it may look."""

    may_look: Callable[[str], bool]
    shown: str


class _Hub:
    """The latest snapshot, and everybody in this event loop who waits for the next."""

    def __init__(self) -> None:
        self.clients: dict[Any, Caller] = {}
        self.tick = 0
        self.text = ""
        self._next = asyncio.Event()
        self._ticking: asyncio.Task[None] | None = None

    def join(self, client: Any, caller: Caller) -> None:
        self.clients[client] = caller
        if self._ticking is None or self._ticking.done():
            # What was said to those who have left is old.
            self.tick = 0
            self._ticking = asyncio.create_task(self._run())
            self._ticking.add_done_callback(_told)

    def leave(self, client: Any) -> None:
        self.clients.pop(client, None)

    async def after(self, tick: int) -> tuple[int, str]:
        """The newest snapshot, once there is one newer than `tick`; whoever was slow misses those between."""
        while self.tick == tick:
            await self._next.wait()
        return self.tick, self.text

    async def _run(self) -> None:
        try:
            while self.clients:
                await self._tick()
        finally:
            # Nobody left, or a bug: then they had better connect again than wait for ever.
            for client in list(self.clients):
                self.leave(client)
                await client.close(BROKEN)

    async def _tick(self) -> None:
        began = asyncio.get_running_loop().time()
        self.text = await _described()
        self.tick += 1
        self._next.set()
        self._next = asyncio.Event()
        if self.tick % RECHECK_TICKS == 0:
            await self._recheck()
        await asyncio.sleep(max(0.0, began + TICK_SECONDS - asyncio.get_running_loop().time()))

    async def _recheck(self) -> None:
        """Once for each caller, however many clients they have; who joins meanwhile has just been checked."""
        clients = dict(self.clients)
        try:
            refused = await in_background(_refused_among, set(clients.values()))
        except DjangoError:
            return
        for client, caller in clients.items():
            if caller in refused:
                self.leave(client)
                await client.close(REVOKED)


class StatsFeed(AsyncWebsocketConsumer):
    """One client. What it sends is ignored."""

    following: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        try:
            caller = await _caller(self.scope)
        except DjangoError as error:
            logger.warning("feed refused", extra={"reason": str(error).strip()})
            # Not an HTTP 503, which a browser does not show its page.
            await self.accept()
            await self.close(TRY_AGAIN, AWAY)
            return
        if caller is None:
            await self.close()
            return
        await self.accept()
        hub.join(self, caller)
        self.following = asyncio.create_task(self._follow())

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Nothing can be said on this socket."""

    async def disconnect(self, code: int) -> None:
        hub.leave(self)
        if self.following is not None:
            self.following.cancel()

    async def _follow(self) -> None:
        tick = 0
        while True:
            tick, text = await hub.after(tick)
            try:
                await asyncio.wait_for(self.send(text_data=text), SEND_SECONDS)
            except TimeoutError:
                hub.leave(self)
                await self.close(TOO_SLOW)
                return


class Nowhere(AsyncWebsocketConsumer):
    """There is no socket at this address."""

    async def connect(self) -> None:
        await self.close()


hub = _Hub()
websocket = URLRouter([path("ws/stats", StatsFeed.as_asgi()), re_path("", Nowhere.as_asgi())])
_sessions = SessionMiddleware(lambda request: HttpResponse())


def _told(ticking: "asyncio.Task[None]") -> None:
    """A bug is in the log when its sockets are closed, not whenever somebody opens the next one."""
    if not ticking.cancelled() and (bug := ticking.exception()):
        logger.error("feed failed", exc_info=bug)


async def _described() -> str:
    try:
        return json.dumps(await in_background(snapshot))
    except DjangoError as error:
        logger.warning("no snapshot", extra={"reason": str(error).strip()})
        return json.dumps({"error": AWAY, "down": ["database"]})


async def _caller(scope: dict[str, Any]) -> Caller | None:
    """Who opens the socket, if they may: a token from anywhere, a session from our own pages only."""
    headers = {name.decode("latin1"): value.decode("latin1") for name, value in scope["headers"]}
    origin = headers.get("origin")
    if origin is not None and not _is_ours(origin, headers.get("host", "")):
        return None
    if "authorization" in headers:
        caller = Caller(_token_may_look, headers["authorization"])
    elif origin is not None:
        caller = Caller(_session_may_look, headers.get("cookie", ""))
    else:
        return None
    return None if await in_background(_refused_among, {caller}) else caller


def _is_ours(origin: str, host: str) -> bool:
    name, _ = split_domain_port(host)
    same = urlsplit(origin).netloc == host and validate_host(name, settings.ALLOWED_HOSTS)
    return same or origin in settings.CSRF_TRUSTED_ORIGINS


def _refused_among(callers: set[Caller]) -> set[Caller]:
    return {caller for caller in callers if not caller.may_look(caller.shown)}


def _token_may_look(header: str) -> bool:
    scheme, _, secret = header.partition(" ")
    token = ApiToken.authenticate(secret) if scheme.lower() == "bearer" else None
    return token is not None and "read" in token.scopes


def _session_may_look(cookies: str) -> bool:
    request = HttpRequest()
    request.COOKIES = parse_cookie(cookies)
    _sessions.process_request(request)
    user: Any = get_user(request)
    return user.is_authenticated and user.is_staff and user.has_perm("jobs.view_job")
