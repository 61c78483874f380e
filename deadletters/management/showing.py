"""Letters for reading: as JSON, as a table on a terminal, as plain lines elsewhere."""

import json
from datetime import datetime
from typing import IO, Any, cast

from django.core.management.base import OutputWrapper
from rich.console import Console
from rich.table import Table

from api.masking import masked
from deadletters.models import DeadLetter
from jobs.models import Attempt, Event
from jobs.policies import policy

REASON_LENGTH = 80
COLUMNS = ("letter", "created", "task", "queue", "cause", "attempt", "job", "fingerprint", "status", "reason")


def as_json(letter: DeadLetter) -> dict[str, Any]:
    """A letter as `dlq list --json` prints it."""
    return {
        "letter": letter.pk,
        "job": str(letter.job_id),
        "task": letter.task,
        "queue": letter.queue,
        "attempt": letter.attempt,
        "cause": letter.cause,
        "reason": letter.reason,
        "fingerprint": letter.fingerprint,
        "signal": letter.signal,
        "exit_code": letter.exit_code,
        "worker": letter.worker_name,
        "created_at": letter.created_at.isoformat(),
        "resolution": letter.resolution,
        "resolved_at": _iso(letter.resolved_at),
        "resolved_by": letter.resolved_by,
        "resolved_reason": letter.resolved_reason,
    }


def in_full(letter: DeadLetter) -> dict[str, Any]:
    """A letter with its job and that job's history; redacted fields are masked."""
    job, hidden = letter.job, policy(letter.task).redacted
    versions = {"payload_before": masked(letter.payload_before, hidden)}
    versions["payload_after"] = masked(letter.payload_after, hidden)
    told = {
        "id": str(job.pk),
        "state": job.state,
        "idempotency_key": job.idempotency_key,
        "created_at": job.created_at.isoformat(),
        "finished_at": _iso(job.finished_at),
        "tags": job.tags,
        "payload": masked(job.payload, hidden),
    }
    attempts = [_attempt(attempt) for attempt in job.attempts.order_by("number")]
    events = [_event(event) for event in job.events.order_by("at", "pk")]
    return {"letter": as_json(letter) | versions, "job": told, "attempts": attempts, "events": events}


def write_list(letters: list[DeadLetter], out: OutputWrapper) -> None:
    """A table on a terminal; elsewhere one line a letter, fields separated by tabs, for cut and grep."""
    if not out.isatty():
        out.write("\t".join(COLUMNS))
        for letter in letters:
            out.write("\t".join(_cells(letter, letter.reason)))
        return
    table = Table(*COLUMNS, box=None, pad_edge=False, header_style="bold")
    for letter in letters:
        table.add_row(*_cells(letter, letter.reason[:REASON_LENGTH]))
    Console(file=cast("IO[str]", out)).print(table)


def write_letter(told: dict[str, Any], out: OutputWrapper) -> None:
    """One letter, its job and its attempts, each with its traceback."""
    for name in ("letter", "job"):
        out.write(f"{name}:")
        for key, value in told[name].items():
            out.write(f"  {key}: {_plain(value)}")
    for attempt in told["attempts"]:
        out.write(f"attempt {attempt['number']}: {attempt['outcome']}, {attempt['ended_at']}, on {attempt['worker']}")
        out.write(f"  {attempt['error_code']}: {attempt['error']}")
        out.write("".join(f"    {line}\n" for line in attempt["traceback"].splitlines()), ending="")
    for event in told["events"]:
        out.write(f"{event['at']}: {event['verb']} by {event['actor']}: {event['reason']}")


def _cells(letter: DeadLetter, reason: str) -> list[str]:
    status = "open" if letter.is_open else f"{letter.resolution} by {letter.resolved_by}"
    place = [str(letter.pk), letter.created_at.isoformat(timespec="seconds"), letter.task, letter.queue, letter.cause]
    return [*place, str(letter.attempt), str(letter.job_id), letter.fingerprint, status, " ".join(reason.split())]


def _attempt(attempt: Attempt) -> dict[str, Any]:
    names = ("number", "outcome", "error_code", "error", "traceback", "signal", "exit_code")
    told = {name: getattr(attempt, name) for name in names}
    times = {"started_at": _iso(attempt.started_at), "ended_at": _iso(attempt.ended_at)}
    return told | times | {"worker": attempt.worker_name}


def _event(event: Event) -> dict[str, Any]:
    return {"at": event.at.isoformat(), "verb": event.verb, "actor": event.actor, "reason": event.reason}


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
