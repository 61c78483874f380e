"""Where the jobs of `submit_jobs` come from: a file of them, one task many times, or the mix of a load test."""

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from django.conf import settings

from jobs.drafting import Draft, draft
from jobs.errors import InvalidJob

# What a line may say, and what `draft` calls it.
FIELDS = {
    "task": "task",
    "payload": "payload",
    "priority": "queue",
    "idempotency_key": "key",
    "run_at": "run_at",
    "tags": "tags",
    "callback_url": "callback_url",
}
FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}
STDIN = "-"
TOO_MANY = "(cells without a column)"
MIXED = ("process_data", "send_email", "process_data", "generate_report", "process_data")


@dataclass(frozen=True)
class Refused:
    """A line that did not become a job: its number, and what is wrong with which field."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


Read = tuple[int, Draft] | Refused


def from_file(path: str, form: str) -> Iterator[Read]:
    """The lines of a file, or of standard input, one at a time. Raises InvalidJob for a CSV header that cannot be."""
    # Bytes that are no UTF-8 become surrogates, which the draft's own check refuses by field.
    how: dict[str, Any] = {"encoding": "utf-8-sig", "errors": "surrogateescape"}
    how["newline"] = "" if form == "csv" else None
    if path == STDIN and sys.stdin is None:
        raise InvalidJob(path, "standard input is closed")
    with open(sys.stdin.fileno(), closefd=False, **how) if path == STDIN else Path(path).open(**how) as lines:
        yield from _csv_lines(lines) if form == "csv" else _json_lines(lines)


def repeated(task: str, payload_text: str, count: int) -> Iterator[Read]:
    """One job, `count` times. Raises InvalidJob at the first, because all would be wrong."""
    payload = _parsed(payload_text, "--payload")
    for number in range(1, count + 1):
        yield number, draft(task, payload)


def mix(count: int) -> Iterator[Read]:
    """What a load test asks for: 60 % process_data, 20 % send_email, 20 % generate_report, evenly mixed."""
    for number in range(1, count + 1):
        task = MIXED[number % len(MIXED)]
        yield _drafted(number, {"task": task, "payload": _mixed_payload(task, number)})


def _json_lines(lines: TextIO) -> Iterator[Read]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            values = _parsed(line, "the line")
        except InvalidJob as error:
            yield Refused(number, str(error))
            continue
        if isinstance(values, dict):
            yield _drafted(number, values)
        else:
            yield Refused(number, f"must be an object with the fields {', '.join(FIELDS)}")


def _csv_lines(lines: TextIO) -> Iterator[Read]:
    # The module's own limit is below that of a payload.
    csv.field_size_limit(4 * settings.PAYLOAD_LIMIT_BYTES)
    rows = csv.DictReader(lines, restkey=TOO_MANY, strict=True)
    try:
        _check_header(list(rows.fieldnames or []))
    except csv.Error as error:
        raise InvalidJob("the header in line 1", f"is not CSV: {error}") from None
    while True:
        number = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Refused(number, f"is not CSV: {error}")
            continue
        yield _from_cells(number, row)


def _check_header(names: list[str]) -> None:
    for name in names:
        if name not in FIELDS:
            raise InvalidJob(f"column {name!r}", f"is unknown; a file may have {', '.join(FIELDS)}")
        if names.count(name) > 1:
            raise InvalidJob(f"column {name!r}", "stands in the header twice")
    if "task" not in names:
        raise InvalidJob("column 'task'", "is missing from the header in line 1")


def _from_cells(number: int, row: Mapping[str, Any]) -> Read:
    """An empty cell says nothing; the payload is JSON, tags are separated by semicolons."""
    if TOO_MANY in row:
        return Refused(number, "has more cells than the header")
    values = {name: cell for name, cell in row.items() if cell}
    try:
        if "payload" in values:
            values["payload"] = _parsed(values["payload"], "payload")
    except InvalidJob as error:
        return Refused(number, str(error))
    if "tags" in values:
        values["tags"] = [tag.strip() for tag in values["tags"].split(";") if tag.strip()]
    return _drafted(number, values)


def _drafted(number: int, values: Mapping[str, Any]) -> Read:
    for name in values:
        if name not in FIELDS:
            return Refused(number, f"{name}: is not a field of a job; there are {', '.join(FIELDS)}")
    given = {FIELDS[name]: value for name, value in values.items() if value is not None}
    try:
        return number, draft(given.pop("task", None), given.pop("payload", None), **given)
    except InvalidJob as error:
        return Refused(number, _in_words_of_the_file(error))


def _in_words_of_the_file(error: InvalidJob) -> str:
    """JSON Pointers name the draft's fields; a reader of the file knows them by the file's names."""
    name, _, inside = error.field.removeprefix("/").partition("/")
    own = {theirs: ours for ours, theirs in FIELDS.items()}.get(name, name)
    return f"{own}/{inside}: {error.reason}" if inside else f"{own}: {error.reason}"


def _parsed(text: str, field: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidJob(field, f"is not JSON: {error.msg} at character {error.pos + 1}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidJob(field, f"is not JSON that can be read: {error}") from None


def _mixed_payload(task: str, number: int) -> dict[str, Any]:
    match task:
        case "send_email":
            subject, body = f"Your order {number}", f"Thank you. Order {number} is on its way."
            return {"to": f"customer{number}@example.com", "subject": subject, "body": body}
        case "generate_report":
            user = f"usr_{number % 100}"
            return {"report_type": "monthly_summary", "user_id": user, "date_range": "last_30_days"}
        case _:
            return {"records": [{"id": number * 10 + index, "value": index * 1.5} for index in range(10)]}
