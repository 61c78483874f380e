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
    """Each entry as a value, or as the Problem it has. Raises Problem before the first, if at all."""
    for index, text_or_value in enumerate(_lines(request) if media_type == NDJSON else _array(request)):
        try:
            if isinstance(text_or_value, Problem):
                yield text_or_value
            elif isinstance(text_or_value, bytes):
                yield parsed(text_or_value)
            else:
                check(text_or_value, f"/{index}")
                yield text_or_value
        except Problem as problem:
            yield problem


def _lines(request: HttpRequest) -> Iterator[bytes | Problem]:
    while line := request.readline(LONGEST_ENTRY + 1):
        if len(line) > LONGEST_ENTRY and not line.endswith(b"\n"):
            yield Problem("too-large", f"The line is longer than {LONGEST_ENTRY:,} bytes.")
            while line and not line.endswith(b"\n"):
                line = request.readline(CHUNK)
        elif line.strip():
            yield line


def _array(request: HttpRequest) -> Iterator[Any]:
    """Read twice: an array that breaks off is no array, which must be known before its first entry is a job."""
    for _ in _Array(request):
        pass
    request._stream.seek(0)
    yield from _Array(request)


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
        if self._next_character() != "]":
            yield from self._values()
        self._text = self._text[1:]
        if self._next_character():
            raise Problem("malformed", "The body is not JSON: something follows the array.")

    def _values(self) -> Iterator[Any]:
        while True:
            yield self._value()
            separator = self._next_character()
            if separator == "]":
                return
            if separator != ",":
                raise Problem("malformed", "The body is not JSON: a comma or the array's end was expected.")
            self._text = self._text[1:]

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
