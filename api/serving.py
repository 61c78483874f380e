"""Django under ASGI in a fixed set of threads, each with a database connection it keeps.

Django's own handler makes a thread, and so a database connection, per request, and hops between loop and
thread for every middleware. Here a request is one hop; see docs/decisions.md.

A database that hangs takes the threads with it, until it goes on. Whoever waits for one is refused meanwhile.
"""

import asyncio
import contextvars
import select
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, TypeVar

from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.handlers.base import BaseHandler
from django.core.signals import request_started
from django.db import OperationalError, close_old_connections, connection
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

from api.problems import RETRY_SOON, ROOT, database_away
from api.pulse import pulse

T = TypeVar("T")
# So long a call may take before anybody asks whether the database still answers.
PATIENCE_SECONDS = 0.6
SILENT = "The database accepts connections and does not answer."
# Whether the request is being answered for the second time, because the first time waits for a silent database.
_known_silent: ContextVar[bool] = ContextVar("known_silent", default=False)


class DatabaseSilent(OperationalError):
    """The database accepts connections and answers nothing; what was asked of it may still come to pass."""


class _Lane:
    """A fixed number of threads, and the queue before them."""

    def __init__(self, name: str, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        # Not the executor's own queue, which keeps what nobody waits for any more.
        self._free = asyncio.Semaphore(threads)

    async def run(self, function: Callable[..., T], *arguments: Any, patient: bool = False) -> T:
        """Call in a thread. Raises DatabaseSilent, unless patient, when that takes long and the database is silent."""
        begun = asyncio.Event()
        call = asyncio.create_task(self._call(begun, function, *arguments))
        try:
            while not (await asyncio.wait({call}, timeout=None if patient else PATIENCE_SECONDS))[0]:
                if await pulse.is_silent() and not call.done():
                    raise DatabaseSilent(SILENT)
            return call.result()
        finally:
            if not begun.is_set():
                call.cancel()
            elif not call.done():
                call.add_done_callback(_discard)

    async def _call(self, begun: asyncio.Event, function: Callable[..., T], *arguments: Any) -> T:
        async with self._free:
            begun.set()
            context = contextvars.copy_context()
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, context.run, function, *arguments)


class ThreadedHandler(ASGIHandler):
    """Runs a request, from its first signal to its last, in one of the threads. Views must not be coroutines."""

    def __init__(self, *, apart: Collection[str] = (), twice: Collection[str] = ()) -> None:
        """Paths that are `apart` have threads of their own, and are answered whatever the database does.

        Those that are answered `twice` are begun anew, apart, when the database is silent; see expect_an_answer.
        """
        BaseHandler.__init__(self)
        self.load_middleware(is_async=False)
        self.apart, self.twice = frozenset(apart), frozenset(twice)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        response = await self._response(scope, body)
        if response.streaming:
            await self._stream(response, body, receive, send)
        else:
            await self.send_response(response, send)

    async def _response(self, scope: Any, body: Any) -> HttpResponseBase:
        if scope["path"] in self.apart:
            return await _apart.run(self._respond, scope, body, patient=True)
        try:
            return await _requests.run(self._respond, scope, body)
        except DatabaseSilent as silence:
            if scope["path"] in self.twice:
                _known_silent.set(True)
                return await _apart.run(self._respond, scope, body, patient=True)
            if scope["path"].startswith(ROOT):
                return database_away().response()
            return HttpResponse(f"{silence}\n", status=503, content_type="text/plain", headers=RETRY_SOON)

    def _respond(self, scope: Any, body: Any) -> HttpResponseBase:
        set_script_prefix(get_script_prefix(scope))
        request_started.send(sender=self.__class__, scope=scope)
        _drop_broken_connection()
        request, refusal = self.create_request(scope, body)
        response: Any = refusal if request is None else self.get_response(request)
        response._handler_class = self.__class__
        if not response.streaming:
            # Its content stays; what closes is the request's resources, and the signal that it has finished.
            response.close()
            body.close()
        return response

    async def _stream(self, response: HttpResponseBase, body: Any, receive: Any, send: Any) -> None:
        """Until it ends, or until nobody listens any more."""
        sending = asyncio.create_task(self.send_response(response, send))
        leaving = asyncio.create_task(self.listen_for_disconnect(receive))
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        for task in (sending, leaving):
            task.cancel()
        outcomes = await asyncio.gather(sending, leaving, return_exceptions=True)
        body.close()
        await in_thread(response.close)
        if isinstance(outcomes[0], Exception):
            raise outcomes[0]


_requests = _Lane("request", settings.WEB_THREADS)
# What the process asks for by itself must not wait behind requests, nor must the question whether it lives.
_background = _Lane("background", 1)
_apart = _Lane("apart", 2)


def expect_an_answer() -> None:
    """Call it before asking the database where an answer is possible without. Raises DatabaseSilent if it is silent."""
    if _known_silent.get():
        raise DatabaseSilent(SILENT)


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function that uses the database in one of the threads for requests, however long that takes."""
    return await _requests.run(_with_connection, function, *arguments, patient=True)


async def in_background(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function that uses the database in this process's one thread for its own needs.

    Raises DatabaseSilent, a DatabaseError like those of the function itself.
    """
    return await _background.run(_with_connection, function, *arguments)


def _discard(call: "asyncio.Task[Any]") -> None:
    """The late end of a call that nobody waits for any more."""
    if not call.cancelled() and call.exception() is None and isinstance(call.result(), HttpResponseBase):
        call.result().close()


def _with_connection(function: Callable[..., T], *arguments: Any) -> T:
    close_old_connections()
    _drop_broken_connection()
    try:
        return function(*arguments)
    finally:
        close_old_connections()


def _drop_broken_connection() -> None:
    """What Django asks a kept connection by a statement before each request, its socket tells for nothing.

    A server that has gone has closed its end, which can be read; only where there is something to read, Django asks.
    """
    django: Any = connection
    kept = django.connection
    if kept is None:
        return
    if not kept.closed:
        socket = select.poll()
        socket.register(kept.fileno(), select.POLLIN)
        django.health_check_done = not socket.poll(0)
    django.close_if_health_check_failed()
