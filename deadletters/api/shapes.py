"""What the API says about dead letters and replays."""

from datetime import datetime
from typing import Any
from uuid import UUID

from ninja import Schema

from api.masking import masked
from deadletters import operations
from deadletters.models import DeadLetter, ReplayOperation
from jobs.policies import policy

PLAIN = (
    "id", "attempt", "queue", "cause", "reason", "fingerprint", "signal", "exit_code", "worker_name", "created_at",
    "resolution", "resolved_at", "resolved_by", "resolved_reason",
)  # fmt: skip


class Letter(Schema):
    """A dead letter in a list. `resolution` is null while it is open."""

    id: int
    task_id: UUID
    task_type: str
    queue: str
    attempt: int
    cause: str
    reason: str
    fingerprint: str
    signal: int | None
    exit_code: int | None
    worker_name: str
    created_at: datetime
    resolution: str | None
    resolved_at: datetime | None
    resolved_by: str
    resolved_reason: str


class LetterDetails(Letter):
    """With its job; redacted fields are masked unless the caller may see them."""

    status: str
    payload: Any
    traceback: str | None
    payload_before: Any
    payload_after: Any
    replay: int | None


class LetterPage(Schema):
    items: list[Letter]
    next: str | None


class LetterGroup(Schema):
    """Open letters of one problem."""

    fingerprint: str
    count: int
    first: datetime
    last: datetime
    sample: Letter


class Replay(Schema):
    """A replay operation."""

    id: int
    state: str
    filter: dict[str, Any]
    reason: str
    pace: float
    patch: dict[str, Any] | None
    total: int
    done: int
    skipped: int
    waiting: int
    created_by: str
    created_at: datetime
    finished_at: datetime | None


class ReplayPage(Schema):
    items: list[Replay]
    next: str | None


class Item(Schema):
    """One letter of a replay."""

    letter_id: int
    state: str
    note: str
    at: datetime | None


class ItemPage(Schema):
    items: list[Item]
    next: str | None


class DryRun(Schema):
    """What a replay would be about. `refused` is among the sample only."""

    total: int
    sample: list[Letter]
    refused: dict[str, str]


def letter(row: DeadLetter) -> dict[str, Any]:
    return {name: getattr(row, name) for name in PLAIN} | {"task_id": row.job_id, "task_type": row.task}


def details(row: DeadLetter, *, unmasked: bool) -> dict[str, Any]:
    hidden = () if unmasked else policy(row.task).redacted
    payloads = {"payload": row.job.payload, "payload_before": row.payload_before, "payload_after": row.payload_after}
    return (
        letter(row)
        | {name: masked(value, hidden) for name, value in payloads.items()}
        | {"status": row.job.state, "traceback": row.job.traceback, "replay": row.operation_id}
    )


def operation(row: ReplayOperation) -> dict[str, Any]:
    same = ("id", "state", "filter", "reason", "pace", "patch", "total", "done", "skipped", "created_by", "created_at",
            "finished_at")  # fmt: skip
    left = max(0, row.total - row.done - row.skipped)
    return {name: getattr(row, name) for name in same} | {"waiting": left}


def preview(letters: Any, patch: dict[str, Any] | None, size: int) -> dict[str, Any]:
    """The numbers of a dry run, and what its first letters would be refused for."""
    sample = list(letters.open().select_related("job").order_by("pk")[:size])
    refused = {str(row.pk): why for row in sample if (why := operations.why_not(row, patch))}
    return {"total": letters.open().count(), "sample": [letter(row) for row in sample], "refused": refused}
