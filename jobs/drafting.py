"""A job as it is wanted: checked in every field, not yet written."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_naive

from jobs import registry
from jobs.doorbell import Bell
from jobs.errors import InvalidJob
from jobs.ids import uuid7
from jobs.logs import request_id
from jobs.outbound import check_url
from jobs.policies import Policy
from jobs.states import State
from jobs.storable import check_text, dumps

# Asking Django for it takes longer than the check.
PAYLOAD_LIMIT = settings.PAYLOAD_LIMIT_BYTES
MAX_TAGS = 20
LABEL_LENGTH = 300


@dataclass(kw_only=True, eq=False, slots=True)
class Draft:
    """Everything an INSERT needs. `queue` is where it goes, `asked_queue` what the caller said (or nothing)."""

    id: UUID
    id_text: str
    task: str
    policy: Policy
    payload: dict[str, Any]
    payload_text: str
    asked_queue: str | None
    run_at: datetime | None
    delay: float
    expires_at: datetime | None
    callback_url: str | None
    tags: Sequence[str]
    schedule: str | None
    trace: dict[str, Any] | None
    key: str | None
    scope: str

    @property
    def queue(self) -> str:
        return self.asked_queue or self.policy.queue

    @property
    def ticket_queue(self) -> str:
        """A job whose next death would be its last runs alone."""
        return "solo" if self.policy.max_deaths == 1 else self.queue

    @property
    def bell(self) -> Bell | None:
        """What to ring on commit when the job is due."""
        return Bell(self.task, self.ticket_queue) if self.policy.is_batch else None

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the request as the caller sent it: before defaults, without times."""
        around = _around(self.task, self.asked_queue, self.callback_url, *self.tags)
        return hashlib.sha256(around + self.payload_text.encode()).digest()

    def labels(self) -> list[str]:
        """What the job can be searched by: its tags and its policy's searchable fields."""
        if not self.tags and not self.policy.searchable:
            return []
        fields = [(name, self.payload.get(name)) for name in self.policy.searchable]
        values = [f"{name}:{value}" for name, value in fields if isinstance(value, (str, int, float))]
        return sorted({text[:LABEL_LENGTH] for text in [*(f"tag:{tag}" for tag in self.tags), *values]})

    def fields(self) -> dict[str, Any]:
        """The row's columns, less the times PostgreSQL's clock decides."""
        return {
            "id": self.id,
            "task": self.task,
            "queue": self.queue,
            "payload": self.payload,
            "state": State.PENDING,
            "max_retries": self.policy.max_retries,
            "max_deaths": self.policy.max_deaths,
            "expires_at": self.expires_at,
            "callback_url": self.callback_url,
            "tags": list(self.tags),
            "schedule": self.schedule,
            "trace": self.trace,
        }

    def columns(self) -> dict[str, Any]:
        """The parameters of the INSERT."""
        return self.fields() | {
            "payload": self.payload_text,
            "trace": json.dumps(self.trace) if self.trace is not None else None,
            "run_at": self.run_at,
            "delay": self.delay,
            "labels": self.labels(),
            "key": self.key,
            "scope": self.scope,
            "fingerprint": self.fingerprint if self.key is not None else b"",
        }


@lru_cache(maxsize=1000)
def _around(*parts: str | None) -> bytes:
    """What a fingerprint covers besides the payload; the same for most jobs of a kind."""
    return json.dumps(parts).encode()


def draft(
    task: Any,
    payload: Mapping[str, Any] | None = None,
    *,
    key: str | None = None,
    scope: str = "",
    queue: str | None = None,
    run_at: datetime | str | None = None,
    delay: float = 0,
    expires_at: datetime | str | None = None,
    callback_url: str | None = None,
    tags: Iterable[str] = (),
    job_id: UUID | str | None = None,
    schedule: str | None = None,
    trace: dict[str, Any] | None = None,
) -> Draft:
    """Check a job and everything about it. Raises InvalidJob, which names the field, and writes nothing.

    `task` is a JobTask or its name, `payload` its arguments by name, `delay` seconds from now,
    `expires_at` a time after which it is no longer worth starting.
    """
    task = task if getattr(task, "is_job", False) else registry.find(task)
    given = _payload(payload)
    text = dumps(given, field="/payload", limit=PAYLOAD_LIMIT)
    registry.check(task, text)
    rules, own_id = task.policy, _uuid(job_id)
    return Draft(
        id=own_id,
        id_text=str(own_id),
        task=task.name,
        policy=rules,
        payload=given,
        payload_text=text,
        asked_queue=_queue(queue, rules.queue),
        run_at=_time(run_at, "/run_at"),
        delay=_delay(delay),
        expires_at=_time(expires_at, "/expires_at"),
        callback_url=_callback(callback_url),
        tags=_tags(tags),
        schedule=schedule,
        trace=_trace(trace),
        key=None if key is None else _key(key),
        scope=scope,
    )


def _payload(payload: Any) -> dict[str, Any]:
    if payload is None:
        return {}
    if type(payload) is dict:
        return payload.copy()
    if not isinstance(payload, Mapping):
        raise InvalidJob("/payload", f"must be an object of arguments by name, not {type(payload).__name__}")
    return dict(payload)


def _uuid(value: UUID | str | None) -> UUID:
    if value is None:
        return uuid7()
    try:
        return value if isinstance(value, UUID) else UUID(str(value))
    except ValueError:
        raise InvalidJob("/task_id", f"{value!r} is not a UUID") from None


def _queue(queue: str | None, own: str) -> str | None:
    """Callers choose a priority; the house's own queues are for the tasks whose policy names them."""
    if queue is None or queue in settings.PRIORITIES or queue == own:
        return queue
    raise InvalidJob("/queue", f"{queue!r} is unknown; it must be one of {', '.join(settings.PRIORITIES)}")


def _time(value: datetime | str | None, field: str) -> datetime | None:
    if value is None:
        return None
    try:
        moment = parse_datetime(value) if isinstance(value, str) else value
    except ValueError:
        moment = None
    if not isinstance(moment, datetime):
        raise InvalidJob(field, f"{value!r} is not a time like 2026-11-20T03:00:00Z")
    if is_naive(moment):
        raise InvalidJob(field, f"{value!r} has no time zone; add Z or an offset")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidJob(field, f"{value!r} is outside the years 1 to 9999 in UTC") from None


def _delay(value: Any) -> float:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if not isinstance(value, (int, float)) or not 0 <= value <= 10 * 366 * 86400:
        raise InvalidJob("/delay", f"{value!r} is not a number of seconds between 0 and ten years")
    return float(value)


def _callback(url: str | None) -> str | None:
    if url is None:
        return None
    check_text(url, field="/callback_url", limit=2000)
    check_url(url, "/callback_url")
    return url


def _tags(tags: Any) -> Sequence[str]:
    if tags == ():
        return ()
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise InvalidJob("/tags", "must be a list of strings")
    found = [check_text(tag, field=f"/tags/{index}", limit=100) for index, tag in enumerate(tags)]
    if len(found) > MAX_TAGS:
        raise InvalidJob("/tags", f"has {len(found)} entries, the limit is {MAX_TAGS}")
    return sorted(set(found))


def _trace(trace: dict[str, Any] | None) -> dict[str, Any] | None:
    """With the id of the HTTP request that asks for the job; what a caller says itself wins."""
    asked = request_id()
    return trace if asked is None else {"request_id": asked} | (trace or {})


def _key(key: Any) -> str:
    if check_text(key, field="/idempotency_key", limit=255) == "":
        raise InvalidJob("/idempotency_key", "must not be empty")
    return key
