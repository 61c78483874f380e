"""Connections of our own to PostgreSQL, beside Django's.

The claim and the settlement must not wait for Django's connection handling, which closes after each
task, and must not join a transaction the task's body has open. One connection per thread and process,
autocommit, prepared statements, kept between tasks.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import psycopg
from django.conf import settings
from django.db import Error as DjangoError
from django.db import connections as django_connections
from psycopg.pq import ExecStatus, TransactionStatus

T = TypeVar("T")
_local = threading.local()
LONGEST_PAUSE = 2.0


class Connection:
    """One autocommit connection, opened when first needed and again after it broke or the process forked."""

    def __init__(self) -> None:
        self._raw: psycopg.Connection[Any] | None = None
        self._pid = 0

    def rows(self, statement: str, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run one statement; its rows. Raises psycopg.Error, after which the next call reconnects if it must."""
        with self._opened().cursor() as cursor:
            cursor.execute(statement.encode(), params, prepare=settings.PREPARED_STATEMENTS)
            return cursor.fetchall() if _has_rows(cursor) else []

    def close(self) -> None:
        if self._raw is not None and self._pid == os.getpid():
            self._raw.close()
        self._raw = None

    def _opened(self) -> psycopg.Connection[Any]:
        if self._raw is None or self._pid != os.getpid() or not _is_usable(self._raw):
            self.close()
            self._raw, self._pid = psycopg.connect(**_parameters(), autocommit=True), os.getpid()
        return self._raw


def own() -> Connection:
    """This thread's own connection."""
    if not hasattr(_local, "connection"):
        _local.connection = Connection()
    return _local.connection


def close_own() -> None:
    if hasattr(_local, "connection"):
        _local.connection.close()


def _is_usable(raw: psycopg.Connection[Any]) -> bool:
    """Not in the middle of a statement either, where a soft time limit may have ended the wait for its answer."""
    return not raw.closed and raw.pgconn.transaction_status != TransactionStatus.ACTIVE


def _has_rows(cursor: psycopg.Cursor[Any]) -> bool:
    """Not by `description`, which makes an object of every column."""
    return cursor.pgresult is not None and cursor.pgresult.status == ExecStatus.TUPLES_OK


def is_outage(error: BaseException) -> bool:
    """Whether the database, rather than the statement, is what failed: worth waiting for."""
    cause = error.__cause__ if isinstance(error, DjangoError) else error
    if not isinstance(cause, (psycopg.OperationalError, psycopg.InterfaceError)):
        return False
    return cause.sqlstate is None or cause.sqlstate[:2] in ("08", "57", "53", "40")


def patiently(work: Callable[[int], T], *, until: float) -> T:
    """Call `work(number of the try)` until it does not fail for an outage, or time.monotonic() passes `until`."""
    tries, pause = 0, 0.05
    while True:
        try:
            return work(tries)
        except (psycopg.Error, DjangoError) as error:
            if not is_outage(error) or time.monotonic() + pause > until:
                raise
        django_connections["default"].close_if_unusable_or_obsolete()
        time.sleep(pause)
        tries, pause = tries + 1, min(pause * 2, LONGEST_PAUSE)


def _parameters() -> dict[str, Any]:
    """What Django itself would connect with, less what is Django's own."""
    given = django_connections["default"].get_connection_params()
    ours = ("cursor_factory", "context", "prepare_threshold", "pool")
    return {name: value for name, value in given.items() if name not in ours} | {"connect_timeout": 5}
