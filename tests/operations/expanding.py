"""The rule that lets a deploy replace processes one by one: a migration only adds what the last release can ignore."""

import re
from collections.abc import Iterator
from typing import Any

from django.db import migrations
from django.db.migrations.state import ProjectState
from django.db.models import NOT_PROVIDED

HARMLESS = (
    migrations.CreateModel,
    migrations.AddIndex,
    migrations.AlterModelOptions,
    migrations.AlterModelManagers,
    migrations.RunPython,
)
NAME = r'("[^"]+"|\w+)'
CONSTRAINT = r"(CONSTRAINT|CHECK|UNIQUE|PRIMARY\s+KEY|FOREIGN\s+KEY|EXCLUDE)"
# Our name for a foreign key: without it nothing is refused that was not before. ON CONFLICT may need a unique one.
FOREIGN_KEY = r"CONSTRAINT\s+\w+_goes_with_its_job\b"
BREAKS = re.compile(
    rf"\b(DROP(?!\s+NOT\s+NULL|\s+{FOREIGN_KEY})|RENAME|SET\s+NOT\s+NULL|ADD\s+{CONSTRAINT}|CREATE\s+UNIQUE\s+INDEX"
    rf"|ALTER\s+(COLUMN\s+)?{NAME}\s+(SET\s+DATA\s+)?TYPE)\b",
    re.I,
)
DEMANDS = re.compile(r"\bADD\b(?![^,;]*\bDEFAULT\b)[^,;]*\bNOT\s+NULL\b", re.I)
PARENTHESES = re.compile(r"\([^()]*\)")


def breaches(app: str, operation: Any, before: ProjectState) -> Iterator[str]:
    """Why a process of the last release could not go on after this operation of a migration; `before` all of it."""
    if hasattr(operation, "model_name_lower") and (app, operation.model_name_lower) not in before.models:
        return
    match operation:
        case migrations.RunSQL():
            # A comma in the parentheses of a type ends no column.
            if BREAKS.search(str(operation.sql)) or DEMANDS.search(PARENTHESES.sub("", str(operation.sql))):
                yield "its SQL takes something away, or refuses what the last release writes"
        case migrations.SeparateDatabaseAndState():
            for each in operation.database_operations:
                yield from breaches(app, each, before)
        case migrations.AddField():
            if not _optional(operation.field):
                yield f"{operation.model_name}.{operation.name} must be nullable or have a db_default"
        case migrations.AlterField():
            earlier = before.models[app, operation.model_name_lower].fields[operation.name]
            if _narrower(earlier, operation.field):
                yield f"{operation.model_name}.{operation.name} takes less than it did"
        case migrations.AddConstraint():
            yield "the last release may write rows that this constraint refuses"
        case _ if not isinstance(operation, HARMLESS):
            yield f"{type(operation).__name__} takes something away"


def _optional(field: Any) -> bool:
    return field.null or field.many_to_many or field.db_default is not NOT_PROVIDED


def _narrower(earlier: Any, field: Any) -> bool:
    sizes = (getattr(each, "max_length", None) or float("inf") for each in (earlier, field))
    return type(earlier) is not type(field) or next(sizes) > next(sizes) or (earlier.null and not _optional(field))
