"""Looking through many jobs: filters, newest first, in pages that never read more than a bounded part of the table."""

import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from django.db.models import F, Func, QuerySet, TextField, Value

from api.paging import Page, Position, encoded, older_than
from jobs import registry
from jobs.drafting import LABEL_LENGTH
from jobs.models import IdempotencyKey, Job, JobLabel
from jobs.policies import policy

# How many rows one page may look at when no index knows the answer.
LOOKED_AT = 100_000
ID_PREFIX = re.compile(r"[0-9a-f]{4,32}")
MOST_KEYS = 100


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to look for; everything that is given must hold. `payload` maps paths ("user.id") to values.

    `identity` is an idempotency key, or an id or its beginning.
    """

    status: str | None = None
    task: str | None = None
    queue: str | None = None
    tag: str | None = None
    fingerprint: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    identity: str | None = None
    payload: Mapping[str, str]

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        moments = {name: datetime.fromisoformat(given[name]) for name in ("since", "until") if given.get(name)}
        return cls(**{"payload": {}, **given, **moments})

    def as_json(self) -> dict[str, Any]:
        """What is asked for, and nothing else; `from_json` reads it."""
        given = {name: value for name, value in asdict(self).items() if value}
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in given.items()}

    def columns(self) -> dict[str, Any]:
        """Filters on columns that no index of the table begins with."""
        asked = {"state": self.status, "task": self.task, "queue": self.queue, "fingerprint": self.fingerprint}
        return {name: value for name, value in asked.items() if value is not None}

    def labels(self) -> list[str]:
        """Filters that job labels answer: tags, and fields that a policy lists as searchable."""
        tags = [f"tag:{self.tag}"] if self.tag is not None else []
        fields = [f"{path}:{value}" for path, value in self.payload.items() if path in searchable(self.task)]
        return [label[:LABEL_LENGTH] for label in [*tags, *fields]]

    def paths(self) -> dict[str, str]:
        """Filters that only the payload itself can answer."""
        return {path: value for path, value in self.payload.items() if path not in searchable(self.task)}


def searchable(task: str | None) -> Collection[str]:
    """Payload fields with labels to search by: of one task, or of any."""
    names = registry.tasks() if task is None else [task]
    return {field for name in names for field in policy(name).searchable}


def matching(wanted: Wanted) -> QuerySet[Job]:
    """Every job that matches, in no order. Without an index that knows the answer it reads the whole table."""
    jobs = _within(wanted, None).order_by()
    if wanted.identity is not None:
        jobs = identified(jobs, wanted.identity)
    return _matching(_labelled(jobs, wanted), wanted, None)


def identified(jobs: QuerySet[Job], text: str) -> QuerySet[Job]:
    """The jobs of an idempotency key, else those whose ids begin so."""
    keyed = list(IdempotencyKey.objects.filter(key=text).values_list("job_id", flat=True)[:MOST_KEYS])
    if keyed:
        return jobs.filter(pk__in=keyed)
    prefix = text.replace("-", "").lower()
    if not ID_PREFIX.fullmatch(prefix):
        return jobs.none()
    return jobs.filter(pk__range=(UUID(prefix.ljust(32, "0")), UUID(prefix.ljust(32, "f"))))


def browse(wanted: Wanted, after: Position | None, limit: int) -> tuple[Page, bool]:
    """A page of jobs, and whether every job was considered: else only the next LOOKED_AT rows were.

    A page may then be empty and still name the next one.
    """
    jobs = _labelled(_within(wanted, after), wanted)
    is_scan = not wanted.labels() and bool(wanted.columns() or wanted.paths())
    horizon = _horizon(jobs) if is_scan else None
    rows = list(_matching(jobs, wanted, horizon)[: limit + 1])
    if len(rows) > limit:
        return Page(rows[:limit], encoded(rows[limit - 1])), horizon is None
    return Page(rows, encoded(horizon) if horizon else None), horizon is None


def _within(wanted: Wanted, after: Position | None) -> QuerySet[Job]:
    jobs = Job.objects.order_by("-created_at", "-id")
    if after is not None:
        jobs = jobs.filter(older_than(after))
    if wanted.since is not None:
        jobs = jobs.filter(created_at__gte=wanted.since)
    return jobs if wanted.until is None else jobs.filter(created_at__lt=wanted.until)


def _labelled(jobs: QuerySet[Job], wanted: Wanted) -> QuerySet[Job]:
    for label in wanted.labels():
        jobs = jobs.filter(pk__in=JobLabel.objects.filter(label=label).values("job"))
    return jobs


def _horizon(jobs: QuerySet[Job]) -> Job | None:
    """The last row this page may look at, or None when there are fewer; read from the index alone."""
    return jobs.only("created_at", "id")[LOOKED_AT - 1 : LOOKED_AT].first()


def _matching(jobs: QuerySet[Job], wanted: Wanted, horizon: Job | None) -> QuerySet[Job]:
    if horizon is not None:
        jobs = jobs.filter(created_at__gte=horizon.created_at).exclude(created_at=horizon.created_at, id__lt=horizon.id)
    for number, (path, value) in enumerate(wanted.paths().items()):
        jobs = jobs.alias(**{f"field_{number}": _text_at(path)}).filter(**{f"field_{number}": value})
    heavy = ("payload", "result", "traceback", "progress", "trace")
    return jobs.filter(**wanted.columns()).defer(*heavy)


def _text_at(path: str) -> Func:
    parts = [Value(part) for part in path.split(".")]
    return Func(F("payload"), *parts, function="jsonb_extract_path_text", output_field=TextField())
