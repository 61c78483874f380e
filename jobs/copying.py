"""Rows sent by COPY, on Django's own connection."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.db import connection

Row = tuple[Any, ...]


class Meanwhile:
    """Something to do while PostgreSQL is busy. Whether it failed tells its errors from those of the COPY."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self._steps = steps
        self.has_failed = False

    def __call__(self) -> None:
        self.has_failed = True
        for step in self._steps:
            step()
        self.has_failed = False


def copy_rows(
    table: str, columns: Sequence[str], rows: Iterable[Row], meanwhile: Callable[[], None] = lambda: None
) -> None:
    """Send the rows, then do something else until PostgreSQL has taken them in. Raises Django's errors.

    What `meanwhile` raises ends the COPY, and with it the transaction.
    """
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
    with connection.wrap_database_errors, connection.connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
        meanwhile()
