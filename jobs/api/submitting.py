"""Submitting a job over HTTP, once per idempotency key."""

import re
from typing import Annotated, Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from ninja import Header, Router

from api.masking import masked
from api.problems import Problem, invalid, invalid_parameter
from api.tokens import allowed, may, owner_id, sees_payloads
from jobs.api.shapes import Accepted, Submission
from jobs.drafting import Draft, draft
from jobs.models import Job
from jobs.policies import policy
from jobs.submission import write

router = Router(tags=["tasks"])
HOUSEKEEPING = "system"
SUBMIT = allowed("submit", "jobs.submit_job")
# A structured-field string after the IETF draft, or the bare text most clients send.
QUOTED = re.compile(r'^"((?:[^"\\]|\\["\\])*)"$')
PRINTABLE = re.compile(r"^[\x20-\x7e]{1,255}$")
KeyHeader = Annotated[
    str | None,
    Header(None, alias="Idempotency-Key", description="One key makes one job, for its owner, for at least 24 hours."),
]
HEADERS = {
    "Location": {"description": "Where the job's status is.", "schema": {"type": "string"}},
    "Idempotency-Replayed": {"description": "`true`: the key has made this job before.", "schema": {"type": "string"}},
}


@router.post(
    "/tasks/submit",
    auth=SUBMIT,
    response={202: Accepted},
    openapi_extra={"responses": {202: {"headers": HEADERS}}},
)
def submit_task(
    request: HttpRequest, response: HttpResponse, submission: Submission, idempotency_key: KeyHeader
) -> Any:
    """Submit a job. It is stored when this answers, whatever becomes of Redis or the workers."""
    wanted = submission.wanted() | {"key": one_key(idempotency_key, submission.idempotency_key)}
    job = write(drafted(request, wanted))
    response["Location"] = reverse("api-1:task_status", args=[job.pk])
    if job.replayed:
        response["Idempotency-Replayed"] = "true"
    return _accepted(job, unmasked=sees_payloads(request))


def drafted(request: HttpRequest, wanted: dict[str, Any]) -> Draft:
    """The checked job this caller may submit; raises InvalidJob and Problem."""
    checked = draft(**wanted, scope=key_scope(request))
    if checked.policy.queue == HOUSEKEEPING and not may(request, "operate", "jobs.retry_job"):
        raise Problem("forbidden", f"Task '{checked.task}' keeps house: it needs the scope 'operate'.")
    return checked


def key_scope(request: HttpRequest) -> str:
    """Keys are an owner's, whichever of their tokens sends them."""
    return f"user:{owner_id(request)}"


def one_key(header: str | None, field: str | None) -> str | None:
    """The idempotency key, from wherever it was given."""
    if header is None:
        return field
    key = _unquoted(header)
    if field is not None and field != key:
        raise invalid("/idempotency_key", "differs from the header Idempotency-Key")
    return key


def _unquoted(header: str) -> str:
    quoted = QUOTED.match(header)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else header
    if not PRINTABLE.match(key):
        raise invalid_parameter("Idempotency-Key", "must be 1 to 255 printable ASCII characters")
    return key


def _accepted(job: Job, *, unmasked: bool) -> dict[str, Any]:
    return {
        "task_id": job.pk,
        "status": job.state,
        "priority": job.queue,
        "message": f"Task '{job.task}' queued on '{job.queue}' queue.",
        "replayed": job.replayed,
        "result": masked(job.result, () if unmasked else policy(job.task).redacted),
    }
