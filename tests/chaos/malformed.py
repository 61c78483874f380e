"""List elements that are no tickets: 24 shapes known to hurt a stock worker, and some more of the same family."""

import base64
import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from jobs import tickets
from jobs.tickets import Ticket

Message = dict[str, Any]


def good(task: str = "flaky") -> Message:
    """A ticket for a job that does not exist, as a starting point."""
    return json.loads(tickets.message(Ticket(uuid4(), task, "default")))


def bad(change: Callable[[Message], Any], task: str = "flaky") -> bytes:
    message = good(task)
    change(message)
    return json.dumps(message).encode()


def body(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.b64encode(raw).decode()


def header(name: str, value: Any) -> bytes:
    return bad(lambda message: message["headers"].update({name: value}))


def delivered(**info: Any) -> bytes:
    return bad(lambda message: message["properties"]["delivery_info"].update(info))


def with_body(value: Any) -> bytes:
    return bad(lambda message: message.update(body=body(value)))


EMBED: Message = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}

# A stock worker exits and has dropped the message.
DROPPED = {
    "not JSON": b"this is not JSON",
    "bytes that are no text": b"\xff\xfe\x00",
    "a list": b"[1, 2, 3]",
    "a number": b"17",
    "null": b"null",
    "a body that is not base64": bad(lambda message: message.update(body="x")),
}
# A stock worker exits and finds the message again after its restart: for ever.
RESTORED = {
    "a body that is an object": with_body({}),
    "a body of two parts": with_body([[], {}]),
    "a time limit that is a word": header("timelimit", ["abc", "abc"]),
}
# A stock worker reconnects for ever, and hands out every message in flight again each time.
LOOPING = {"no id": bad(lambda message: message["headers"].pop("id"))}
# A stock worker survives these, some after a reconnect.
SURVIVED = {
    "an empty object": b"{}",
    "no properties": bad(lambda message: message.pop("properties")),
    "no delivery tag": bad(lambda message: message["properties"].pop("delivery_tag")),
    "empty headers": bad(lambda message: message.update(headers={})),
    "null headers": bad(lambda message: message.update(headers=None)),
    "a body that is no JSON": with_body(b"{{{"),
    "pickle": bad(lambda message: message.update({"content-type": "application/x-python-serialize"})),
    "an unknown content type": bad(lambda message: message.update({"content-type": "text/x-unknown"})),
    "an eta that is no time": header("eta", "tomorrow"),
    "an eta in the year 9999": header("eta", "9999-12-31T23:59:59+00:00"),
    "a body that is not UTF-8": with_body(b"\xff\xff"),
    "retries that are a word": header("retries", "abc"),
}
# Well formed, and nothing to keep: one is told about, the other is a ticket for no job.
HARMLESS = {
    "an unknown task": bad(lambda message: None, task="nobody_knows_me"),
    "arguments the task does not take": with_body([[], {"no": "such"}, EMBED]),
}
QUARANTINED = DROPPED | RESTORED | LOOPING | SURVIVED
KNOWN = QUARANTINED | HARMLESS

deep = b"[" * 100_000 + b"]" * 100_000
# Found by trying more of the same kind.
MORE = {
    "no routing key": bad(lambda message: message["properties"].update(delivery_info={})),
    "a routing key that is a number": delivered(routing_key=5),
    "an id that is no UUID": header("id", "abc"),
    "JSON nested too deep": deep,
    "a body nested too deep": with_body(deep),
    "limits that are not finite": bad(lambda message: message["headers"].update(timelimit=[None, float("nan")])),
    "negative limits": header("timelimit", [None, -1]),
    "endless retries": header("retries", 10**400),
    "callbacks that are a number": with_body([[], {}, EMBED | {"callbacks": 5, "errbacks": 5}]),
    "an unknown compression": header("compression", "rot13"),
    "a time of expiry that is a list": header("expires", [1]),
    "stamps that are a number": bad(lambda message: message["headers"].update(stamped_headers=5, stamps=5)),
    "a group that is a list": header("group", [[1]]),
    "a priority that is a word": bad(lambda message: message["properties"].update(priority="high")),
    "a correlation id that is an object": bad(lambda message: message["properties"].update(correlation_id={})),
    "a reply address that is a list": bad(lambda message: message["properties"].update(reply_to=[1])),
    "a task that is an object": header("task", {}),
    "an origin that is a list": header("origin", [[]]),
    "a body encoding that is a list": bad(lambda message: message["properties"].update(body_encoding=[])),
    "an eta beyond every clock": header("eta", 1e300),
    "an eta that is a number": header("eta", 17),
    "an eta in local time": header("eta", "2020-01-01T00:00:00"),
    "a time of expiry that is a number": header("expires", 5),
    "a parent that is a list": header("parent_id", [1]),
    "a root that is a number": header("root_id", 5),
    "a shadow that is an object": header("shadow", {"a": 1}),
    "an argsrepr that is a list": header("argsrepr", [1]),
    "a replaced task nesting that is a word": header("replaced_task_nesting", "x"),
    "ignore_result that is a word": header("ignore_result", "x"),
    "a language that is a number": header("lang", 3),
    "an empty element": b"",
    "a string": b'"text"',
    "true": b"true",
    "a redelivered flag that is a word": bad(
        lambda message: message["properties"]["delivery_info"].update(redelivered="x")
    ),
}
