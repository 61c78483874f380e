"""What kombu's Redis channel asks of Redis for each message, less what it need not ask.

Stock kombu makes a new client for every command, and wraps the two commands that note or forget an
unacknowledged message in MULTI. They need no transaction: the note is read only to hand a message out
again, which the claim makes harmless, and half a note is skipped there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kombu.transport import redis as stock


class QoS(stock.QoS):
    @contextmanager
    def pipe_or_acquire(self, pipe: Any = None, client: Any = None) -> Iterator[Any]:
        if pipe:
            yield pipe
            return
        with self.channel.conn_or_acquire(client) as kept:  # type: ignore[attr-defined]
            yield kept.pipeline(transaction=False)


class Channel(stock.Channel):
    QoS = QoS
    _kept: Any = None

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """One client as long as its pool lives; a lost connection replaces the pool."""
        if client is None:
            if self._kept is None or self._kept.connection_pool is not self.pool:
                self._kept = self._create_client()  # type: ignore[attr-defined]
            client = self._kept
        yield client
