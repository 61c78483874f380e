"""Does the database answer? Asked only when a call takes long, to tell one that works from one that hangs.

A PostgreSQL that is frozen, or behind a network that swallows packets, keeps its connections open and says nothing:
no statement fails, and none ends. A living one answers a question that needs no table, however busy it is.
"""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor

from django.db import InterfaceError, OperationalError, close_old_connections, connection
from psycopg.errors import ConnectionTimeout

logger = logging.getLogger(__name__)
ANSWER_SECONDS = 0.9


class _Pulse:
    """One question at a time, on a connection of its own, for everybody in this event loop who wonders."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pulse")
        self._answer: asyncio.Future[bool] | None = None
        self._asked_at = 0.0
        self._was_silent = False

    async def is_silent(self) -> bool:
        """Whether a question has stood unanswered for ANSWER_SECONDS."""
        if self._answer is None or self._answer.done():
            self._answer = asyncio.get_running_loop().run_in_executor(self._thread, _answers)
            self._asked_at = time.monotonic()
        answer, before = self._answer, self._was_silent
        await asyncio.wait({answer}, timeout=max(0.0, self._asked_at + ANSWER_SECONDS - time.monotonic()))
        self._was_silent = not answer.done() or not answer.result()
        if self._was_silent and not before:
            logger.warning("database silent")
        return self._was_silent


pulse = _Pulse()


def _answers() -> bool:
    close_old_connections()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except (OperationalError, InterfaceError) as error:
        connection.close()
        # Any other refusal is an answer, which whoever wonders is about to get as well.
        return not isinstance(error.__cause__, ConnectionTimeout)
    return True
