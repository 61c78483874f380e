"""Tickets: the broker messages that let a worker claim a job. They may be lost or arrive twice.

A ticket is an ordinary Celery message without arguments; PostgreSQL holds those. It is built from a
template and pushed without retries through a connection of its own, because Celery's publisher waits
6 s for a Redis that is down and for ever for one that hangs.
"""

import base64
import json
import logging
import os
import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple
from uuid import UUID

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

logger = logging.getLogger(__name__)

HEALTHY_TIMEOUT = 0.8
PROBE_TIMEOUT = 0.04
QUIET_SECONDS = 3.0
MOST_AT_ONCE = 1000
ID_SLOT, TAG_SLOT = "@job-id@", "@delivery-tag@"
# Not the module's own: a body that seeds that one would have every process make the same tags.
_tags = random.Random()
os.register_at_fork(after_in_child=_tags.seed)


class Ticket(NamedTuple):
    job: UUID
    task: str
    queue: str
    # What goes to Redis, where it has been written beforehand.
    text: str = ""


class _Publisher:
    """Pushes tickets, and after a failure leaves Redis alone for a few seconds."""

    def __init__(self) -> None:
        self._clients = {timeout: _client(timeout) for timeout in (HEALTHY_TIMEOUT, PROBE_TIMEOUT)}
        self._timeout = HEALTHY_TIMEOUT
        self._quiet_until = 0.0

    def is_quiet(self) -> bool:
        return time.monotonic() < self._quiet_until

    def push(self, tickets: Sequence[Ticket]) -> bool:
        """Whether the tickets were handed over; False costs at most one time-out."""
        return self.attempt(lambda client: self._push(client, tickets), len(tickets))

    def attempt(self, work: Callable[[redis.Redis], object], tickets: int) -> bool:
        """Whether Redis did this work, which stands for so many tickets; False costs at most one time-out."""
        if self.is_quiet():
            return False
        try:
            work(self._clients[self._timeout])
        except redis.RedisError as error:
            self._quiet_until, self._timeout = time.monotonic() + QUIET_SECONDS, PROBE_TIMEOUT
            logger.warning("tickets not published", extra={"tickets": tickets, "reason": str(error)})
            return False
        self._timeout = HEALTHY_TIMEOUT
        return True

    def _push(self, client: redis.Redis, tickets: Sequence[Ticket]) -> None:
        """A transaction may have any number, and Redis must answer for each part within the time-out."""
        for start in range(0, len(tickets), MOST_AT_ONCE):
            self._push_part(client, tickets[start : start + MOST_AT_ONCE])

    def _push_part(self, client: redis.Redis, tickets: Sequence[Ticket]) -> None:
        by_queue = defaultdict(list)
        for ticket in tickets:
            by_queue[ticket.queue].append(message(ticket))
        if len(by_queue) == 1:
            [(queue, messages)] = by_queue.items()
            client.lpush(queue, *messages)
            return
        pipeline = client.pipeline(transaction=False)
        for queue, messages in by_queue.items():
            pipeline.lpush(queue, *messages)
        pipeline.execute()


def publish(tickets: Sequence[Ticket]) -> bool:
    """Put tickets on their queues, once, without retries. False: the dispatcher must issue them."""
    return not tickets or _publisher().push(tickets)


def attempt(work: Callable[[redis.Redis], object], tickets: int) -> bool:
    """Have something else done in Redis with the same short patience, on behalf of so many tickets."""
    return _publisher().attempt(work, tickets)


def can_publish() -> bool:
    """Whether it is worth trying now; right after a failure it is not."""
    return not _publisher().is_quiet()


def message(ticket: Ticket) -> str:
    return ticket.text or text(ticket.job, ticket.task, ticket.queue)


def text(job: UUID, task: str, queue: str) -> str:
    """A ticket as kombu's Redis transport stores it: Celery's message protocol 2, base64 body."""
    # Unique is enough for a tag; the operating system's randomness would cost a call for every ticket.
    return first_text(str(job), task, queue, tag=f"{_tags.getrandbits(128):032x}")


def first_text(job: str, task: str, queue: str, *, tag: str = "") -> str:
    """The text of a job's first ticket, for whose tag its id is unique enough, or of one with a `tag` of its own."""
    *before, after = _template(task, queue)
    return f"{job.join(before)}{tag or job}{after}"


@cache
def reading_client() -> redis.Redis:
    """A client for looking at queues; its commands raise redis.RedisError after half a beat.

    Whoever looks also beats or judges who is alive: a Redis that hangs must not keep it from that.
    """
    return _client(settings.HEARTBEAT_SECONDS / 2)


@cache
def _publisher() -> _Publisher:
    return _Publisher()


def _client(timeout: float) -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        lib_name=None,
        lib_version=None,
    )


@cache
def _template(task: str, queue: str) -> list[str]:
    """The text around the places where the job's id goes, and last the delivery tag."""
    before, _, after = _pattern(task, queue).partition(TAG_SLOT)
    return [*before.split(ID_SLOT), after]


def _pattern(task: str, queue: str) -> str:
    """Without what Celery takes for granted: all of it would be read, copied and handed to a child, for every job."""
    headers = {"lang": "py", "task": task, "id": ID_SLOT, "root_id": ID_SLOT, "origin": "switchyard"}
    properties = {
        "correlation_id": ID_SLOT,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "body_encoding": "base64",
        "delivery_tag": TAG_SLOT,
    }
    content = {"content-encoding": "utf-8", "content-type": "application/json"}
    whole = {"body": base64.b64encode(b"[[],{},{}]").decode(), "headers": headers, "properties": properties}
    return json.dumps(whole | content, separators=(",", ":"))
