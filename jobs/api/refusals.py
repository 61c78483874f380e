"""What `jobs` refuses, as the API says it."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse

from api.problems import Problem, invalid
from jobs.errors import Conflict, InvalidJob, JobExists, KeyBusy, KeyReused, QueueFull
from jobs.models import Job

# The fields of a job by the names the API has for them.
NAMES = {"task": "task_type", "queue": "priority"}


def problem_of(error: Exception) -> Problem:
    """The problem a refusal is."""
    match error:
        case Problem():
            return error
        case InvalidJob():
            return invalid(pointer(error.field), error.reason)
        case KeyReused():
            errors = [{"pointer": "/idempotency_key", "detail": "was used with another body"}]
            return Problem("key-reused", str(error), errors=errors, task_id=str(error.job_id))
        case KeyBusy():
            return Problem("key-busy", str(error), headers={"Retry-After": "1"})
        case QueueFull():
            return Problem("queue-full", str(error), headers={"Retry-After": str(error.retry_after)})
        case _:
            return Problem("conflict", str(error))


def pointer(field: str) -> str:
    """A place in a draft as a place in the request."""
    name, slash, inside = field.removeprefix("/").partition("/")
    return f"/{NAMES.get(name, name)}{slash}{inside}"


def _answer(request: HttpRequest, error: Exception) -> HttpResponse:
    return problem_of(error).response()


def _answer_unknown(request: HttpRequest, error: Exception) -> HttpResponse:
    return Problem("not-found", "There is no job with this id.").response()


REFUSED = (InvalidJob, KeyReused, KeyBusy, QueueFull, JobExists, Conflict)
ANSWERS: dict[type[Exception], Callable[[HttpRequest, Any], HttpResponse]] = {
    **dict.fromkeys(REFUSED, _answer),
    Job.DoesNotExist: _answer_unknown,
}
