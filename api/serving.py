"""Django under ASGI in a fixed set of threads, each with a database connection it keeps.

Django's own handler makes a thread, and so a database connection, per request, and hops between loop and
thread for every middleware. Here a request is one hop; see docs/benchmarks.md.
"""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.base import BaseHandler
from django.db import close_old_connections
from django.http import HttpRequest
from django.http.response import HttpResponseBase

T = TypeVar("T")
_requests = ThreadPoolExecutor(settings.WEB_THREADS, thread_name_prefix="request")
# What the process asks for by itself must not wait behind requests.
_background = ThreadPoolExecutor(1, thread_name_prefix="background")


class ThreadedHandler(ASGIHandler):
    """Runs middleware and view of a request in one of the threads. Views must not be coroutines."""

    def __init__(self) -> None:
        BaseHandler.__init__(self)
        self.load_middleware(is_async=False)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.handle(scope, receive, send)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        return await in_thread(self.get_response, request)


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
