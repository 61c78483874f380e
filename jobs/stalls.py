"""The stall watchdog: a worker that is connected, idle and not consuming has lost its consumer.

A known fault of Celery on Redis: after some reconnects the worker lives, answers pings, and takes nothing.
"""

import logging
import os
import time
from collections.abc import Iterable

import redis

from jobs import tickets
from jobs.transport import Pulse

logger = logging.getLogger("jobs.parent")
CONNECTED_SECONDS = 60.0
SILENT_SECONDS = 30.0
EXIT_STALLED = 75


class StallWatchdog:
    """Asked on every beat; knows since when the worker could have taken a ticket and did not."""

    def __init__(self) -> None:
        self.connected_since: float | None = None
        self._silent_since: float | None = None

    def is_stalled(self, *, connected: bool, free_slots: int, queues: Iterable[str]) -> bool:
        """Whether tickets have waited for SILENT_SECONDS in front of free slots, long after the last reconnect."""
        now = time.monotonic()
        if not connected:
            self.connected_since = self._silent_since = None
            return False
        self.connected_since = self.connected_since or now
        if free_slots <= 0 or not _have_tickets(queues):
            self._silent_since = None
            return False
        self._silent_since = max(self._silent_since or now, Pulse.popped_at)
        settled_in = now - self.connected_since >= CONNECTED_SECONDS
        return settled_in and now - self._silent_since >= SILENT_SECONDS


def end_process() -> None:
    """Leave at once; the row says STOPPING by now, so the dispatcher gives the jobs back instead of counting deaths."""
    logger.critical(
        "consumer stalled: tickets wait, slots are free and nothing is taken; ending so that I am restarted"
    )
    os._exit(EXIT_STALLED)


def _have_tickets(queues: Iterable[str]) -> bool:
    try:
        return any(tickets.reading_client().llen(queue) for queue in queues)
    except redis.RedisError:
        return False
