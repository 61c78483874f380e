"""Telling requests apart: every line written while one is answered, and every job it submits, has its id."""

import re
from typing import Any
from uuid import uuid4

from jobs.logs import logged_with

HEADER = b"x-request-id"
ACCEPTED = re.compile(rb"[\w.:=+/@-]{1,100}", re.ASCII)


class RequestIds:
    """ASGI: a caller's X-Request-ID, or a new one, in the log and in the answer.

    An id of more than 100 characters, or with others than letters, digits and `._:=+/@-`, is replaced.
    """

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.application(scope, receive, send)
            return
        request_id = _given(scope) or uuid4().hex.encode()

        async def answer(message: Any) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                message["headers"] = [*message.get("headers", ()), (HEADER, request_id)]
            await send(message)

        with logged_with(request_id=request_id.decode()):
            await self.application(scope, receive, answer)


def _given(scope: Any) -> bytes | None:
    given = dict(scope["headers"]).get(HEADER, b"")
    return given if ACCEPTED.fullmatch(given) else None
