"""What may go into a JSON column or a text column of PostgreSQL.

jsonb refuses NUL (22P05) and lone surrogates (22P02), JSON has no NaN, and none of these may surface
as a database error hours later: they are refused by name, or cleaned, before a statement is built.
"""

import json
import math
import re
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined]
from typing import Any

from jobs.errors import InvalidJob

MAX_DEPTH = 100
LARGEST_NUMBER = 10**4300
# What comes here has been checked, also for depth. Keys are sorted so that one payload has one text, whoever wrote
# it (jobs.drafting.Draft.fingerprint).
_encoder = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, sort_keys=True, separators=(",", ":")
)
# Made once: JSONEncoder makes another one for every text (CPython's json/encoder.py, iterencode).
_parts = c_make_encoder and c_make_encoder(
    None, _encoder.default, encode_basestring, None, ":", ",", _encoder.sort_keys, False, _encoder.allow_nan
)
UNSTORABLE_TEXT = re.compile("[\x00\ud800-\udfff]")
ESCAPED_NUL = r"\u0000"
LEAVES = frozenset((str, int, float, bool, type(None)))


def dumps(value: Any, *, field: str, limit: int) -> str:
    """`value` as JSON text of at most `limit` bytes; raises InvalidJob naming the place inside `field`."""
    text = _plain_text(value)
    if text is None:
        _check(value, field, 0)
        text = _encode(value)
    size = len(text) if text.isascii() else len(text.encode())
    if size > limit:
        raise InvalidJob(field, f"is {size} bytes as JSON, the limit is {limit}")
    return text


def check_text(value: Any, *, field: str, limit: int) -> str:
    """A string of at most `limit` characters that PostgreSQL can hold; raises InvalidJob."""
    if not isinstance(value, str):
        raise InvalidJob(field, f"must be a string, not {type(value).__name__}")
    if len(value) > limit:
        raise InvalidJob(field, f"is {len(value)} characters long, the limit is {limit}")
    _check_characters(value, field)
    return value


def clean(text: str, *, limit: int) -> str:
    """Text of somebody else's, made storable: NUL and surrogates replaced, the middle cut out over `limit`."""
    text = UNSTORABLE_TEXT.sub("\ufffd", text)
    if len(text) <= limit:
        return text
    half = (limit - 20) // 2
    return f"{text[:half]}\n... cut ...\n{text[-half:]}"


def escape(key: Any) -> str:
    """A key as a part of a JSON Pointer."""
    return str(key).replace("~", "~0").replace("/", "~1")


def _encode(value: Any) -> str:
    return "".join(_parts(value, 0)) if _parts else _encoder.encode(value)


def _plain_text(value: Any) -> str | None:
    """JSON of a value of the common types, or None: then `_check` says what is wrong with it, if anything.

    Once written, all strings can be looked at together.
    """
    if not _is_plain(value, 0):
        return None
    try:
        text = _encode(value)
    except ValueError:  # NaN, infinity, or a number of too many digits
        return None
    is_storable = ESCAPED_NUL not in text and (text.isascii() or UNSTORABLE_TEXT.search(text) is None)
    return text if is_storable else None


def _is_plain(value: Any, depth: int) -> bool:
    """Whether it consists of JSON's own types, with strings for keys, and is not too deep."""
    kind = type(value)
    if kind in LEAVES:
        return True
    if depth >= MAX_DEPTH:
        return False
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str or (type(item) not in LEAVES and not _is_plain(item, depth + 1)):
                return False
        return True
    return kind is list and all(_is_plain(item, depth + 1) for item in value)


def _check(value: Any, field: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidJob(field[:200], f"is nested more than {MAX_DEPTH} levels deep")
    match value:
        case None | bool():
            pass
        case str():
            _check_characters(value, field)
        case int() | float():
            _check_number(value, field)
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise InvalidJob(field, f"has the key {key!r}, which is not a string")
                _check_characters(key, field)
                _check(item, f"{field}/{escape(key)}", depth + 1)
        case list() | tuple():
            for index, item in enumerate(value):
                _check(item, f"{field}/{index}", depth + 1)
        case _:
            raise InvalidJob(field, f"{type(value).__name__} is not a JSON value")


def _check_number(value: float, field: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidJob(field, f"{value} is not a JSON number")
    if abs(value) >= LARGEST_NUMBER:
        raise InvalidJob(field, "is a number of more digits than Python will write")


def _check_characters(text: str, field: str) -> None:
    if (not text.isascii() or "\x00" in text) and (found := UNSTORABLE_TEXT.search(text)):
        name = "a NUL character" if found[0] == "\x00" else "a lone surrogate"
        raise InvalidJob(field, f"contains {name}, which cannot be stored")
