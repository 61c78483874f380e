"""Submitting up to 10,000 jobs in one request, read and written a thousand at a time."""

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import Annotated, Any

from django.db import OperationalError
from django.http import HttpRequest, StreamingHttpResponse
from ninja import Query, Router, Schema, Status
from pydantic import ValidationError

from api.bodies import demand_type
from api.contract import as_problem
from api.problems import Problem
from api.serving import in_thread
from jobs.api.entries import JSON, NDJSON, entries
from jobs.api.refusals import REFUSED, problem_of
from jobs.api.shapes import Submission
from jobs.api.submitting import SUBMIT, drafted
from jobs.bulk import submit_many
from jobs.drafting import Draft
from jobs.errors import KeyReused
from jobs.models import Job
from jobs.states import State

router = Router(tags=["tasks"])
MOST_JOBS = 10_000
PART = 1000
MOST_ERRORS = 100
Atomic = Annotated[bool, Query(False, description="All or nothing: one entry that is refused refuses all.")]


class BulkItem(Schema):
    """What became of one entry: a job, or the problem it has."""

    index: int
    task_id: str | None = None
    status: str | None = None
    replayed: bool = False
    error: dict[str, Any] | None = None


class BulkAnswer(Schema):
    accepted: int
    refused: int
    items: list[BulkItem]


SCHEMA = {"$ref": "#/components/schemas/Submission"}
ITEM = {"$ref": "#/components/schemas/BulkItem"}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": {"type": "array", "minItems": 1, "maxItems": MOST_JOBS, "items": SCHEMA}},
            NDJSON: {"schema": {"type": "string", "description": "A Submission per line."}},
        },
    },
    "responses": {207: {"content": {NDJSON: {"schema": {"type": "string", "description": "A BulkItem per line."}}}}},
}


@router.post("/tasks/bulk", auth=SUBMIT, response={202: BulkAnswer, 207: BulkAnswer}, openapi_extra=BODY)
def submit_tasks(request: HttpRequest, atomic: Atomic) -> Any:
    """Submit many jobs. 202: all were accepted; 207: each item says what became of it; 422: none was accepted.

    Lines of JSON are answered with 207 and by lines of JSON, as they are written; with `atomic` as an array is.
    """
    media_type = demand_type(request, JSON, NDJSON)
    incoming = enumerate(entries(request, media_type))
    if atomic:
        return Status(202, _answer(_all_or_nothing(request, incoming)))
    parts = _parts(request, incoming)
    first = next(parts, None)
    if first is None:
        raise _nothing()
    if media_type == NDJSON:
        return StreamingHttpResponse(_streamed(first, parts), status=207, content_type=NDJSON)
    answer = _answer([*first, *(item for part in parts for item in part)])
    if not answer["accepted"]:
        raise _none_accepted(answer["items"])
    return Status(207 if answer["refused"] else 202, answer)


def _parts(request: HttpRequest, incoming: Iterator[tuple[int, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Each part commits by itself. What refuses the first refuses the request; later ones answer for themselves."""
    is_first = True
    while part := list(islice(incoming, PART)):
        checked = [(index, _checked(request, index, value)) for index, value in part]
        try:
            yield _written(checked)
        except (*REFUSED, OperationalError) as error:
            if is_first:
                raise
            refusal = as_problem(error) if isinstance(error, OperationalError) else problem_of(error)
            yield [_refused(index, refusal) for index, _ in checked]
        is_first = False


def _all_or_nothing(request: HttpRequest, incoming: Iterator[tuple[int, Any]]) -> list[dict[str, Any]]:
    checked = [(index, _checked(request, index, value)) for index, value in incoming]
    if not checked:
        raise _nothing()
    problems = [(index, each) for index, each in checked if isinstance(each, Problem)]
    if problems:
        raise _none_accepted([_refused(index, problem) for index, problem in problems])
    return _written(checked, atomic=True)


def _checked(request: HttpRequest, index: int, value: Any) -> Draft | Problem:
    if isinstance(value, Problem):
        return value
    if index >= MOST_JOBS:
        return Problem("too-large", f"A request may submit {MOST_JOBS:,} jobs.")
    try:
        return drafted(request, Submission.model_validate(value).wanted())
    except (ValidationError, Problem, *REFUSED) as error:
        return as_problem(error) if isinstance(error, ValidationError) else problem_of(error)


def _written(checked: list[tuple[int, Draft | Problem]], *, atomic: bool = False) -> list[dict[str, Any]]:
    drafts = [each for _, each in checked if isinstance(each, Draft)]
    written = iter(submit_many(drafts, atomic=atomic))
    outcomes = [(index, each if isinstance(each, Problem) else next(written)) for index, each in checked]
    before = [each.job_id for _, each in outcomes if not isinstance(each, Problem) and each.replayed]
    states = dict(Job.objects.filter(pk__in=before).values_list("pk", "state")) if before else {}
    return [_item(index, each, states) for index, each in outcomes]


def _item(index: int, outcome: Any, states: dict[Any, str]) -> dict[str, Any]:
    if isinstance(outcome, Problem):
        return _refused(index, outcome)
    if isinstance(outcome.error, KeyReused):
        return _refused(index, problem_of(outcome.error))
    status = states.get(outcome.job_id, State.PENDING)
    return {"index": index, "task_id": str(outcome.job_id), "status": status, "replayed": outcome.replayed}


def _refused(index: int, problem: Problem) -> dict[str, Any]:
    return {"index": index, "error": problem.document()}


def _none_accepted(refused: list[dict[str, Any]]) -> Problem:
    """Their errors as places in the whole body."""
    errors = [
        {"pointer": f"/{item['index']}{error.get('pointer', '')}", "detail": error["detail"]}
        for item in refused
        for error in item["error"].get("errors") or [{"detail": item["error"]["detail"]}]
    ]
    detail = f"{len(refused):,} of the jobs are refused; nothing was submitted."
    return Problem("invalid", detail, errors=errors[:MOST_ERRORS])


def _answer(items: list[dict[str, Any]]) -> dict[str, Any]:
    refused = sum("error" in item for item in items)
    return {"accepted": len(items) - refused, "refused": refused, "items": items}


async def _streamed(first: Iterable[Any], parts: Iterator[list[dict[str, Any]]]) -> AsyncIterator[bytes]:
    part: Iterable[Any] | None = first
    while part is not None:
        yield b"".join(json.dumps(item).encode() + b"\n" for item in part)
        part = await in_thread(next, parts, None)


def _nothing() -> Problem:
    return Problem("invalid", "The body names no job.", errors=[{"pointer": "", "detail": "names no job"}])
