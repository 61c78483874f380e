"""The API object: every error a problem, and an OpenAPI document that says everything a client can rely on."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI, Schema
from ninja.errors import AuthenticationError, HttpError, ValidationError
from pydantic import ConfigDict
from pydantic import ValidationError as PydanticError

from api.bodies import StrictParser, escaped
from api.parameters import only_known_parameters
from api.problems import BY_STATUS, KINDS, MEDIA_TYPE, Problem, database_away

logger = logging.getLogger("api")
PROBLEM = "Problem"
# What any call may be answered with, whatever it is about.
ALWAYS = (400, 401, 403, 404, 413, 415, 422, 429, 500, 503)
WRITING = (409,)
OUTAGES = ("08", "53", "57", "58")


class FieldError(Schema):
    """`pointer` is a JSON Pointer into the body; `parameter` names a query parameter or a header."""

    pointer: str | None = None
    parameter: str | None = None
    detail: str


class ProblemDocument(Schema):
    """RFC 9457 problem details; docs/api.md lists the types."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []


class ContractAPI(NinjaAPI):
    """A NinjaAPI whose refusals and whose document are complete."""

    def __init__(self, **options: Any) -> None:
        super().__init__(parser=StrictParser(), **options)
        self.add_decorator(only_known_parameters)

    def set_default_exception_handlers(self) -> None:
        for error, answer in ANSWERS.items():
            self.add_exception_handler(error, answer)

    def get_openapi_operation_id(self, operation: Any) -> str:
        return operation.view_func.__name__

    def get_openapi_schema(self, **options: Any) -> Any:
        document = super().get_openapi_schema(**options)
        document["components"]["schemas"][PROBLEM] = _problem_schema()
        for operations in document["paths"].values():
            for method, operation in operations.items():
                _complete(operation, ALWAYS if method == "get" else ALWAYS + WRITING)
        return document


def as_problem(error: Exception) -> Problem:
    """The problem that an error of pydantic or of the database is."""
    if isinstance(error, PydanticError):
        return _invalid([{**each, "loc": ("body", "", *each["loc"])} for each in error.errors(include_url=False)])
    return database_away()


def _complete(operation: dict[str, Any], refusals: Sequence[int]) -> None:
    responses = operation["responses"]
    for status in refusals:
        responses.setdefault(status, {"description": _titles(status)})
    for status, response in responses.items():
        if int(status) >= 400:
            response["description"] = _titles(int(status))
            response["content"] = {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{PROBLEM}"}}}
    operation["responses"] = {str(status): responses[status] for status in sorted(responses, key=int)}


def _titles(status: int) -> str:
    return "; ".join(f"{kind}: {title}" for kind, (of, title) in KINDS.items() if of == status) or "Refused"


def _problem_schema() -> dict[str, Any]:
    schema = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    field_error = schema.pop("$defs")["FieldError"]
    schema["properties"]["errors"]["items"] = field_error
    return schema


def _answer_problem(request: HttpRequest, problem: Problem) -> HttpResponse:
    return problem.response()


def _answer_http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    """ninja's own; what the parser raised is its cause."""
    if isinstance(error.__cause__, Problem):
        return error.__cause__.response()
    kind = BY_STATUS.get(error.status_code, "malformed")
    return Problem(kind, str(error)).response()


def _answer_validation(request: HttpRequest, error: ValidationError) -> HttpResponse:
    if all(each["loc"][0] == "path" for each in error.errors):
        return Problem("not-found").response()
    return _invalid(error.errors).response()


def _invalid(found: Sequence[Mapping[str, Any]]) -> Problem:
    errors = [_field_error(each) for each in found]
    first = errors[0]
    where = first.get("pointer") or first.get("parameter") or "body"
    return Problem("invalid", f"{where}: {first['detail']}", errors=errors)


def _field_error(error: Mapping[str, Any]) -> dict[str, str]:
    """ninja says (source, argument, field, ...); a client knows a body by pointer, the rest by name."""
    source, *place = error["loc"]
    detail = error["msg"].removeprefix("Value error, ")
    if source == "body":
        return {"pointer": "".join(f"/{escaped(part)}" for part in place[1:]), "detail": detail}
    return {"parameter": str(place[-1]) if place else source, "detail": detail}


def _answer_not_found(request: HttpRequest, error: Exception) -> HttpResponse:
    return Problem("not-found").response()


def _answer_too_big(request: HttpRequest, error: Exception) -> HttpResponse:
    return Problem("too-large").response()


def _answer_suspicious(request: HttpRequest, error: Exception) -> HttpResponse:
    return Problem("malformed").response()


def _answer_database(request: HttpRequest, error: Exception) -> HttpResponse:
    """A database that is away is no bug; any other database error is one."""
    if not _is_outage(error):
        return _answer_bug(request, error)
    logger.warning("database away", extra={"reason": str(error).strip()})
    return as_problem(error).response()


def _answer_bug(request: HttpRequest, error: Exception) -> HttpResponse:
    logger.error("request failed", exc_info=error, extra={"path": request.path, "method": request.method})
    return Problem("internal", "The error was logged; nothing about it is told here.").response()


def _is_outage(error: Exception) -> bool:
    state = getattr(error.__cause__, "sqlstate", None)
    return isinstance(error, (OperationalError, InterfaceError)) and (state is None or state[:2] in OUTAGES)


ANSWERS: dict[type[Exception], Any] = {
    Exception: _answer_bug,
    Problem: _answer_problem,
    HttpError: _answer_http_error,
    AuthenticationError: _answer_http_error,
    ValidationError: _answer_validation,
    Http404: _answer_not_found,
    RequestDataTooBig: _answer_too_big,
    SuspiciousOperation: _answer_suspicious,
    DatabaseError: _answer_database,
    InterfaceError: _answer_database,
}
