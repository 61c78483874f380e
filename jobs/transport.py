"""kombu's Redis transport, guarded: one bad list element or a lost connection must not end a worker.

Faults of kombu 5.7.0 that this works around, each with a test that fails when it is mended upstream
(tests/jobs/test_transport.py):
- `_brpop_read` decodes and delivers what it popped with nothing around it: nine shapes of malformed
  message stop the worker, four of them again after every restart, one reconnects for ever.
- `_deliver_fanout_message` trusts what was published on the channels of remote control in the same way.
- After the connection is lost, closing the channel and acknowledging raise AttributeError
  ('NoneType' has no attribute 'hostname'), which is no connection error to anybody: the worker exits.
"""

import base64
import binascii
import json
import logging
import time
from collections.abc import Mapping
from datetime import datetime
from queue import Empty
from typing import Any

from kombu.transport import redis as stock
from kombu.utils.encoding import bytes_to_str

from jobs import roundtrips

logger = logging.getLogger("jobs.transport")
QUARANTINE = "jobs:malformed"
QUARANTINE_SIZE = 1000
FARTHEST_YEAR = 2200
LONGEST_LIMIT = 1e9


class Pulse:
    """When this process last took a message; for the stall watchdog."""

    popped_at = time.monotonic()


class Channel(roundtrips.Channel):
    # Where tickets arrive; replies to remote control come another way and have another shape.
    ticket_queues: tuple[str, ...] = ()
    from_transport_options = (*stock.Channel.from_transport_options, "ticket_queues")

    def _brpop_read(self, **options: Any) -> bool:
        """Take one message; what no worker could handle is put aside instead of being delivered."""
        try:
            reply = self._reply(**options)
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()  # type: ignore[attr-defined]
        if not reply:
            self.forget()
            raise Empty
        Pulse.popped_at = time.monotonic()
        queue, raw = bytes_to_str(reply[0]).rsplit(self.sep, 1)[0], reply[1]
        self._queue_cycle.rotate(queue)  # type: ignore[attr-defined]
        message, fault = readable(raw, ticket=queue in self.ticket_queues)
        if fault:
            self._quarantine(raw, queue, fault)
        else:
            self.connection._deliver(message, queue)
        return True

    def _deliver_fanout_message(self, message: Any, exchange: str) -> bool:
        """What was published for nobody to read is dropped: there is no worker it could be kept for."""
        if fault := published_fault(message):
            logger.error("published message dropped", extra={"exchange": exchange, "fault": fault})
            raise Empty
        delivered: bool = super()._deliver_fanout_message(message, exchange)  # type: ignore[misc]
        return delivered

    def _reply(self, **options: Any) -> Any:
        try:
            return self.client.parse_response(self.client.connection, "BRPOP", **options)
        except self.connection_errors:  # type: ignore[attr-defined]
            self.client.connection.disconnect()
            raise

    def _quarantine(self, raw: bytes, queue: str, fault: str) -> None:
        logger.error("message quarantined", extra={"queue": queue, "fault": fault, "size": len(raw)})
        with self.conn_or_acquire() as client:
            client.lpush(QUARANTINE, raw)
            client.ltrim(QUARANTINE, 0, QUARANTINE_SIZE - 1)


class Transport(roundtrips.Transport):
    Channel = Channel
    connection_errors = (*stock.Transport.connection_errors, AttributeError)


def readable(raw: bytes, *, ticket: bool = True) -> tuple[dict[str, Any], str]:
    """A message as kombu wants it, and what is wrong with it (empty: nothing); a ticket must be a task's message."""
    try:
        message = json.loads(raw)
    except (ValueError, RecursionError):
        return {}, "is not JSON"
    if not isinstance(message, dict):
        return {}, "is not an object"
    fault = _envelope_fault(message)
    if not fault and ticket:
        fault = _header_fault(message.get("headers")) or _body_fault(message.get("body"))
    return message, fault


def published_fault(message: Any) -> str:
    """What is wrong with a message of remote control or of worker events (empty: nothing)."""
    if not isinstance(message, dict):
        return "is not an object"
    if fault := _envelope_fault(message):
        return fault
    if not isinstance(message.get("headers"), dict):
        return "has no headers"
    return "" if isinstance(_parsed(message.get("body")), (dict, list)) else "has a body that is not base64 of JSON"


def _envelope_fault(message: Mapping[str, Any]) -> str:
    properties = message.get("properties")
    if not isinstance(properties, dict) or not isinstance(properties.get("delivery_info"), dict):
        return "has no properties with delivery_info"
    if not all(isinstance(properties["delivery_info"].get(name), str) for name in ("exchange", "routing_key")):
        return "has no exchange and routing_key"
    if not isinstance(properties.get("delivery_tag"), str) or properties.get("body_encoding") != "base64":
        return "has no delivery_tag or is not base64"
    if message.get("content-type") != "application/json":
        return f"has content-type {message.get('content-type')!r}; only application/json is read"
    if message.get("content-encoding") != "utf-8":
        return "has no utf-8 content-encoding"
    return ""


def _header_fault(headers: Any) -> str:
    if not isinstance(headers, dict):
        return "has no headers"
    for name in ("id", "task"):
        if not isinstance(headers.get(name), str) or not headers[name]:
            return f"has no header {name}"
    limits = headers.get("timelimit") or [None, None]
    if not isinstance(limits, list) or len(limits) != 2 or not all(_is_limit(each) for each in limits):
        return "has time limits that are not numbers"
    if not isinstance(headers.get("retries", 0), int):
        return "has retries that are not a number"
    return next((f"has a bad {name}" for name in ("eta", "expires") if not _is_time(headers.get(name))), "")


def _body_fault(body: Any) -> str:
    parts, shapes = _parsed(body), (list, dict, dict)
    if parts is None:
        return "has a body that is not base64 of JSON"
    if not isinstance(parts, list) or len(parts) != 3 or not all(map(isinstance, parts, shapes)):
        return "has a body that is not [args, kwargs, embed]"
    return ""


def _parsed(body: Any) -> Any:
    """A body's JSON; None when it is none."""
    try:
        return json.loads(base64.b64decode(body, validate=True))
    except (TypeError, ValueError, binascii.Error, RecursionError):
        return None


def _is_limit(value: Any) -> bool:
    """None, or a span that can pass: one that is negative or NaN interrupts the child while it does something else."""
    if value is None:
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < LONGEST_LIMIT


def _is_time(value: Any) -> bool:
    """None, or an ISO time not so far ahead that a worker would hold the message for ever."""
    if value is None:
        return True
    if not isinstance(value, str):
        return False
    try:
        return datetime.fromisoformat(value).year < FARTHEST_YEAR
    except ValueError:
        return False
