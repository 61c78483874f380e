"""Request bodies: JSON of bounded size and depth that PostgreSQL can hold, or a problem that says where not."""

import json
import math
import re
from typing import Any

from django.http import HttpRequest
from ninja import Schema
from ninja.parser import Parser
from pydantic import ConfigDict

from api.problems import Problem, invalid

JSON_TYPES = ("application/json",)
MAX_DEPTH = 64
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class Body(Schema):
    """Base of what a client sends: no unknown fields, and "5" is not 5."""

    model_config = ConfigDict(extra="forbid", strict=True)


class StrictParser(Parser):
    def parse_body(self, request: HttpRequest) -> Any:
        demand_type(request, *JSON_TYPES)
        return parsed(request.body)


def demand_type(request: HttpRequest, *allowed: str) -> str:
    """The body's media type, if it is one of these; raises Problem (415)."""
    given = request.content_type or ""
    if given not in allowed:
        wanted = " or ".join(allowed)
        raise Problem("unsupported-media-type", f"The body must be {wanted}, not {given or 'without a Content-Type'}.")
    return given


def parsed(text: bytes | str) -> Any:
    """A body as Python values; raises Problem naming the place that is wrong."""
    try:
        value = json.loads(text.decode() if isinstance(text, bytes) else text)
    except UnicodeDecodeError:
        raise Problem("malformed", "The body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise Problem("malformed", f"The body is not JSON: {error.msg} at character {error.pos + 1}.") from None
    except RecursionError:
        raise invalid("", f"is nested more than {MAX_DEPTH} levels deep") from None
    except ValueError as error:
        raise Problem("malformed", f"The body is not JSON that can be read: {error}.") from None
    check(value)
    return value


def check(value: Any, pointer: str = "", depth: int = 0) -> None:
    """Refuse what JSON or PostgreSQL cannot hold, wherever it stands; raises Problem."""
    if depth > MAX_DEPTH:
        raise invalid("/".join(pointer.split("/")[:4]), f"is nested more than {MAX_DEPTH} levels deep")
    match value:
        case str():
            _check_text(value, pointer)
        case float() if not math.isfinite(value):
            raise invalid(pointer, f"{value} is not a JSON number")
        case dict():
            for key, item in value.items():
                _check_text(key, pointer)
                check(item, f"{pointer}/{escaped(key)}", depth + 1)
        case list():
            for index, item in enumerate(value):
                check(item, f"{pointer}/{index}", depth + 1)


def escaped(part: Any) -> str:
    """A part of a JSON Pointer."""
    return str(part).replace("~", "~0").replace("/", "~1")


def unstorable(text: str) -> str | None:
    """What in a text PostgreSQL cannot hold, or None."""
    found = UNSTORABLE.search(text)
    return None if found is None else "a NUL character" if found[0] == "\x00" else "a lone surrogate"


def _check_text(text: str, pointer: str) -> None:
    if found := unstorable(text):
        raise invalid(pointer, f"contains {found}, which cannot be stored")
