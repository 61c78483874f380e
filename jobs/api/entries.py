"""Reading many jobs from one request body, one at a time: a JSON array or lines of JSON."""

import codecs
import json
from collections.abc import Iterator
from typing import Any

from django.http import HttpRequest

from api.bodies import check, parsed
from api.problems import Problem, invalid

NDJSON = "application/x-ndjson"
JSON = "application/json"
CHUNK = 64 * 1024
LONGEST_ENTRY = 1024 * 1024
SPACE = " \t\r\n"


def entries(request: HttpRequest, media_type: str) -> Iterator[Any]:
    """Each entry as a value, or as the Problem it has. Raises Problem where the body cannot be read any further."""
    for index, text_or_value in enumerate(_lines(request) if media_type == NDJSON else _Array(request)):
        try:
            if isinstance(text_or_value, bytes):
                yield parsed(text_or_value)
            else:
                check(text_or_value, f"/{index}")
                yield text_or_value
        except Problem as problem:
            yield problem


def _lines(request: HttpRequest) -> Iterator[bytes]:
    while line := request.readline(LONGEST_ENTRY):
        if len(line) == LONGEST_ENTRY and not line.endswith(b"\n"):
            raise Problem("too-large", f"A line is longer than {LONGEST_ENTRY:,} bytes.")
        if line.strip():
            yield line


class _Array:
    """A JSON array read piece by piece; holds one entry and one chunk at a time."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._decode = codecs.getincrementaldecoder("utf-8")()
        self._parse = json.JSONDecoder().raw_decode
        self._text = ""
        self._is_over = False

    def __iter__(self) -> Iterator[Any]:
        if self._next_character() != "[":
            raise invalid("", "must be an array of jobs")
        self._text = self._text[1:]
        if self._next_character() == "]":
            return
        while True:
            yield self._value()
            separator = self._next_character()
            self._text = self._text[1:]
            if separator == "]":
                return
            if separator != ",":
                raise Problem("malformed", "The body is not JSON: a comma or the array's end was expected.")

    def _value(self) -> Any:
        self._next_character()
        while True:
            try:
                value, end = self._parse(self._text)
            except json.JSONDecodeError as error:
                if not self._read():
                    raise Problem("malformed", f"The body is not JSON: {error.msg}.") from None
                continue
            except (ValueError, RecursionError) as error:
                raise Problem("malformed", f"The body is not JSON that can be read: {error}.") from None
            if end == len(self._text) and self._read():
                continue
            self._text = self._text[end:]
            return value

    def _next_character(self) -> str:
        """The first character that is no space, left where it is; nothing at the end."""
        self._text = self._text.lstrip(SPACE)
        while not self._text and self._read():
            self._text = self._text.lstrip(SPACE)
        return self._text[:1]

    def _read(self) -> bool:
        """Whether there was more to read."""
        if len(self._text) > LONGEST_ENTRY:
            raise Problem("too-large", f"An entry is longer than {LONGEST_ENTRY:,} characters, or is not JSON.")
        piece = b"" if self._is_over else self._request.read(CHUNK)
        self._is_over = not piece
        try:
            self._text += self._decode.decode(piece, final=self._is_over)
        except UnicodeDecodeError:
            raise Problem("malformed", "The body is not UTF-8.") from None
        return bool(piece)
