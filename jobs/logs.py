"""Every line written while a job runs names the job: ours, Celery's, the task's own, any library's."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

_fields: ContextVar[MappingProxyType[str, Any]] = ContextVar("job_fields", default=MappingProxyType({}))
STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "data"}


@contextmanager
def job_fields(**fields: Any) -> Iterator[None]:
    """Add these fields to every log record of this context."""
    token = _fields.set(MappingProxyType({**_fields.get(), **fields}))
    try:
        yield
    finally:
        _fields.reset(token)


class JobFields(logging.Filter):
    """Puts the context's fields on a record; what the record says itself wins."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in _fields.get().items():
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
