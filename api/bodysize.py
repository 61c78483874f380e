"""Refusing bodies that are too large while they arrive, before they fill memory or disk."""

import re
from typing import Any

from django.conf import settings

from api.problems import MEDIA_TYPE, ROOT, Problem

BULK = re.compile(r"^/api/tasks/bulk/?$")
# A client that is still sending reads no answer: up to here its body is thrown away first.
DRAINED = 64 * 1024 * 1024


class BodySizeLimit:
    """ASGI: answers 413 for a body over its path's limit, and hands every other request on."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(ROOT):
            await self.application(scope, receive, send)
            return
        incoming = _Counted(receive, _limit(scope["path"]), _announced(scope))
        if incoming.is_too_large:
            await _refuse(incoming, send)
            return
        try:
            await self.application(scope, incoming.receive, send)
        except _TooLarge:
            await _refuse(incoming, send)


class _TooLarge(Exception):
    """More has arrived than is allowed; raised while Django collects the body, so nothing has been answered."""


class _Counted:
    def __init__(self, receive: Any, limit: int, announced: int) -> None:
        self._receive = receive
        self._limit = limit
        self.received = 0
        self.is_complete = announced == 0
        self.is_too_large = announced > limit

    async def receive(self) -> Any:
        message = await self.next()
        if self.received > self._limit:
            self.is_too_large = True
            raise _TooLarge
        return message

    async def next(self) -> Any:
        message = await self._receive()
        self.received += len(message.get("body", b""))
        self.is_complete = message["type"] != "http.request" or not message.get("more_body", False)
        return message


def _limit(path: str) -> int:
    return settings.API_BULK_LIMIT_BYTES if BULK.match(path) else settings.API_BODY_LIMIT_BYTES


def _announced(scope: Any) -> int:
    length = dict(scope["headers"]).get(b"content-length", b"-1")
    return int(length) if length.isdigit() else -1


async def _refuse(incoming: _Counted, send: Any) -> None:
    while not incoming.is_complete and incoming.received < DRAINED:
        await incoming.next()
    problem = Problem("too-large", f"The body is larger than the {incoming._limit:,} bytes this address accepts.")
    content = problem.response().content
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
