"""Prepared statements on Django's own connection, for what is asked too often to be asked through the ORM."""

from collections.abc import Mapping
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection


def on_django(statement: str, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Run a statement in whatever transaction is open on Django's connection; its rows. Raises Django's errors."""
    connection.ensure_connection()
    connection.validate_no_broken_transaction()
    # Not Django's cursor, which binds on the client's side and so cannot prepare.
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(statement.encode(), params, prepare=settings.PREPARED_STATEMENTS)
        return cursor.fetchall()
