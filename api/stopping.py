"""The end of a web process. A server waits for open requests, so those that wait for something must be told first."""

import asyncio
import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_acts: list[Callable[[], None]] = []


def when_stopping(act: Callable[[], None]) -> None:
    """Have this called in the event loop as soon as the process is told to stop."""
    _acts.append(act)


async def lifespan(scope: Any, receive: Any, send: Any) -> None:
    """ASGI: listens for the signals itself, because the server says so only once every request has ended."""
    await receive()
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            act = partial(_stop, asyncio.get_running_loop(), signal.getsignal(number))
            signal.signal(number, act)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


def _stop(loop: asyncio.AbstractEventLoop, server: Any, number: int, frame: Any) -> None:
    for act in _acts:
        loop.call_soon_threadsafe(act)
    if callable(server):
        server(number, frame)
