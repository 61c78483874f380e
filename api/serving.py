"""Django under ASGI in a fixed set of threads, each with a database connection it keeps.

Django's own handler makes a thread, and so a database connection, per request, and hops between loop and
thread for every middleware. Here a request is one hop; see docs/decisions.md.
"""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.handlers.base import BaseHandler
from django.core.signals import request_started
from django.db import close_old_connections
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

T = TypeVar("T")
_requests = ThreadPoolExecutor(settings.WEB_THREADS, thread_name_prefix="request")
# What the process asks for by itself must not wait behind requests.
_background = ThreadPoolExecutor(1, thread_name_prefix="background")


class ThreadedHandler(ASGIHandler):
    """Runs a request, from its first signal to its last, in one of the threads. Views must not be coroutines."""

    def __init__(self) -> None:
        BaseHandler.__init__(self)
        self.load_middleware(is_async=False)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        response = await in_thread(self._respond, scope, body)
        if response.streaming:
            await self._stream(response, body, receive, send)
        else:
            await self.send_response(response, send)

    def _respond(self, scope: Any, body: Any) -> HttpResponseBase:
        set_script_prefix(get_script_prefix(scope))
        request_started.send(sender=self.__class__, scope=scope)
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


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function that uses the database in one of the threads for requests."""
    return await _run(_requests, function, *arguments)


async def in_background(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function that uses the database in this process's one thread for its own needs."""
    return await _run(_background, function, *arguments)


async def _run(executor: ThreadPoolExecutor, function: Callable[..., T], *arguments: Any) -> T:
    context = contextvars.copy_context()
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(executor, context.run, _with_connection, function, *arguments)


def _with_connection(function: Callable[..., T], *arguments: Any) -> T:
    close_old_connections()
    try:
        return function(*arguments)
    finally:
        close_old_connections()
