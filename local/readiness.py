"""How a service shows that it is ready to be used."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing

Readiness = Callable[[], Awaitable[bool]]


def listens(port: int) -> Readiness:
    async def ready() -> bool:
        return await _talk(port, b"") is not None

    return ready


def answers(port: int, path: str) -> Readiness:
    """Ready when GET `path` is answered with 200."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()

    async def ready() -> bool:
        answer = await _talk(port, request)
        return answer is not None and answer.startswith(b"HTTP/1.1 200 ")

    return ready


async def _talk(port: int, request: bytes) -> bytes | None:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return None
    with closing(writer):
        writer.write(request)
        try:
            return await asyncio.wait_for(reader.readline(), 2) if request else b""
        except (OSError, TimeoutError):
            return None


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the servers do: a port whose last owner left a moment ago counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
