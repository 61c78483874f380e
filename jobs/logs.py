"""Every line written while a job runs names the job: ours, Celery's, the task's own, any library's.

And none of them shows what the job's policy redacts: see jobs.redaction.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from jobs.redaction import NO_SECRETS, Secrets


class _Context(NamedTuple):
    fields: Mapping[str, Any]
    secrets: Secrets


_NOTHING = _Context({}, NO_SECRETS)
_context: ContextVar[_Context] = ContextVar("log_context", default=_NOTHING)
# The jobs in the hands of this process: a thread that a body starts has no context of its own.
_running: list[_Context] = []
STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "data", "color_message"}


@contextmanager
def logged_with(**fields: Any) -> Iterator[None]:
    """Add these fields to every log record of this context."""
    with _entered(_Context({**_context.get().fields, **fields}, _context.get().secrets)):
        yield


@contextmanager
def job_fields(*, secrets: Secrets = NO_SECRETS, **fields: Any) -> Iterator[None]:
    """Add the fields of a job to the log records of this context, and hide its secrets in them."""
    with _entered(_Context(fields, secrets)):
        yield


@contextmanager
def running_job(*, secrets: Secrets = NO_SECRETS, **fields: Any) -> Iterator[None]:
    """The same while a job runs, for the threads its body starts as well."""
    with _entered(_Context(fields, secrets)) as context:
        _running.append(context)
        try:
            yield
        finally:
            _running.remove(context)


@contextmanager
def about_others() -> Iterator[None]:
    """For lines about other jobs than the one that runs here: they name it as `by_job`."""
    fields, secrets = _present()
    kept = {name: fields[name] for name in ("request_id", "worker") if name in fields}
    runs = {"by_job": fields["job_id"]} if "job_id" in fields else {}
    with _entered(_Context(kept | runs, secrets)):
        yield


def request_id() -> str | None:
    """The id of the HTTP request this context answers, or of the one that submitted the job it runs."""
    return _context.get().fields.get("request_id")


@contextmanager
def _entered(context: _Context) -> Iterator[_Context]:
    token = _context.set(context)
    try:
        yield context
    finally:
        _context.reset(token)


def _present() -> _Context:
    """This context; in a thread without one that of the job which runs, if there is only one it can belong to."""
    context = _context.get()
    return _running[0] if context is _NOTHING and len(_running) == 1 else context


class JobFields(logging.Filter):
    """Hides the secrets of the job that runs, then puts the context's fields on a record; what it says itself wins."""

    def filter(self, record: logging.LogRecord) -> bool:
        context = _present()
        if context.secrets:
            _hide(record, context.secrets)
        for name, value in context.fields.items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


class PlainFormatter(logging.Formatter):
    """For people: time, level, message, then the fields that were added."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        extra = {name: value for name, value in vars(record).items() if name not in STANDARD}
        line = super().format(record)
        return f"{line}  {' '.join(f'{name}={value}' for name, value in extra.items())}" if extra else line


def _hide(record: logging.LogRecord, secrets: Secrets) -> None:
    """Message, arguments, traceback, stack and extras: everything a formatter could print."""
    record.msg, record.args = secrets.hidden(_message(record)), ()
    if record.exc_info:
        record.exc_text, record.exc_info = logging.Formatter().formatException(record.exc_info), None
    for name, value in list(vars(record).items()):
        if name in ("exc_text", "stack_info") or name not in STANDARD:
            setattr(record, name, secrets.hidden(value, name))


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, LookupError):
        # logging would report the mismatch with all arguments in clear.
        return f"{record.msg} {record.args}"
