"""What kombu's Redis channel asks of Redis for each message, less what it need not wait for.

Stock kombu makes a new client for every command, wraps the two commands that note or forget an
unacknowledged message in MULTI, and waits for the answer to each pair before it goes on. The notes are
read only to hand a message out again, which the claim makes harmless. So they need no transaction, half
a note is skipped there, and nobody waits: one connection is kept for them, a note takes along what is to
be forgotten by then, and answers are read before the next is written. An idle channel forgets within the
time-out of its BRPOP, a second.

And stock kombu registers its connections with the poller on every turn of the event loop, four of which a
message takes. Those that are registered stay so until they are lost or paused, which removes them there.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from json import dumps
from typing import Any

import redis
from kombu.transport import redis as stock
from kombu.transport import virtual

logger = logging.getLogger("jobs.transport")
Command = tuple[Any, ...]


class Notebook:
    """A connection on which commands are written without waiting for their answers."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self._connection = pool.get_connection()
        self._unread = 0

    def write(self, commands: list[Command]) -> None:
        """Raises redis.ConnectionError; whether the commands were carried out is then unknown."""
        self._connection.send_packed_command(self._connection.pack_commands(commands))
        self._unread += len(commands)

    def read_answers(self) -> None:
        """What was written before is carried out now. Raises redis.ConnectionError when that is not known."""
        unread, self._unread = self._unread, 0
        for _ in range(unread):
            try:
                self._connection.read_response()
            except redis.ResponseError as refused:
                # Out of memory, say: the message is served without the second net that the note is.
                logger.warning("note about a message refused", extra={"reason": str(refused)})

    def close(self) -> None:
        self.pool.release(self._connection)


class QoS(stock.QoS):
    """The unacknowledged messages of a channel."""

    channel: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The first so many have been written, and stay here until they are known to be forgotten.
        self._to_forget: deque[str] = deque()
        self._written = 0

    def append(self, message: Any, delivery_tag: str) -> None:
        info = message.delivery_info
        text = dumps([message._raw, info["exchange"], info["routing_key"]])
        note = [("ZADD", self.unacked_index_key, time.time(), delivery_tag)]
        self._write([*note, ("HSET", self.unacked_key, delivery_tag, text)])
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        self._to_forget.append(delivery_tag)
        # Otherwise the next message, or the end of the wait for one, takes it along.
        if not self.channel.active_queues:
            self.forget()
        virtual.QoS.ack(self, delivery_tag)

    def forget(self) -> None:
        """Have Redis forget what was acknowledged, and see that it did. Raises redis.ConnectionError."""
        while self._to_forget:
            self._write([])
            self._see_to_it()

    def _write(self, commands: list[Command]) -> None:
        self._see_to_it()
        tags = list(self._to_forget)
        if tags:
            commands = [("ZREM", self.unacked_index_key, *tags), ("HDEL", self.unacked_key, *tags), *commands]
        self.channel.notebook().write(commands)
        self._written = len(tags)

    def _see_to_it(self) -> None:
        written, self._written = self._written, 0
        self.channel.notebook().read_answers()
        for _ in range(written):
            self._to_forget.popleft()

    def arrive(self) -> None:
        """Wait until what was written is there, for somebody who reads it on another connection."""
        # When that cannot be known, the other connection will tell.
        with suppress(redis.ConnectionError):
            self._see_to_it()

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        self.arrive()
        super().restore_by_tag(tag, client, leftmost)

    @contextmanager
    def pipe_or_acquire(self, pipe: Any = None, client: Any = None) -> Iterator[Any]:
        if pipe:
            yield pipe
            return
        with self.channel.conn_or_acquire(client) as kept:
            yield kept.pipeline(transaction=False)


class Channel(stock.Channel):
    QoS = QoS
    _kept: Any = None
    _notebook: Notebook | None = None

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """One client as long as its pool lives; a lost connection replaces the pool."""
        if client is None:
            if self._kept is None or self._kept.connection_pool is not self.pool:
                self._kept = self._create_client()  # type: ignore[attr-defined]
            client = self._kept
        yield client

    def notebook(self) -> Notebook:
        """It lives as long as its pool, too."""
        if self._notebook is None or self._notebook.pool is not self.pool:
            self._notebook = Notebook(self.pool)
        return self._notebook

    def _restore(self, message: Any, leftmost: bool = False) -> None:
        notes: Any = self.qos
        notes.arrive()
        super()._restore(message, leftmost)  # type: ignore[call-arg]

    def close(self) -> None:
        if self._notebook is not None and not self.closed:
            try:
                self._forget_at_last()
            except self.connection_errors as lost:  # type: ignore[attr-defined]
                # Those tickets come again after the visibility timeout, and are refused.
                logger.warning("notes about finished messages stay behind", extra={"reason": str(lost)})
            self._notebook.close()
            self._notebook = None
        super().close()

    def forget(self) -> None:
        """Have Redis forget what was acknowledged by now. Raises redis.ConnectionError."""
        notes: Any = self.qos
        notes.forget()

    def _forget_at_last(self) -> None:
        """A connection that was lost is opened anew, once: its Redis may well be there."""
        try:
            self.forget()
        except redis.ConnectionError:
            self.forget()


class Readers:
    """The event loop, as far as the transport uses it; registers only what is not registered."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def add_reader(self, fd: int, callback: Any, *args: Any) -> None:
        if self._loop.readers.get(fd) != (callback, args):
            self._loop.add_reader(fd, callback, *args)


class Transport(stock.Transport):
    Channel = Channel

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        super().register_with_event_loop(connection, Readers(loop))
