"""Finding the values that a policy redacts in what a job writes to the log."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import quote, quote_plus

from api.masking import MASK

# Hiding every "1" and "no" would hide nothing but the line: shorter values are hidden by their names alone.
SHORTEST = 4


class Secrets:
    """What stands under the redacted names of one payload, at any depth.

    Text of four characters or more is hidden wherever it occurs, also as repr, JSON and URLs spell it; a number of
    four or more where it is not part of a longer one; truth values and shorter ones only under their names.
    """

    def __init__(self, payload: Mapping[str, Any], names: Collection[str]) -> None:
        self._payload = payload
        self._names = frozenset(names)

    def __bool__(self) -> bool:
        return bool(self._names)

    def hidden(self, value: Any, name: str = "") -> Any:
        """The value, of whatever type, with its secrets masked; the value itself when it shows none."""
        if name in self._names:
            return MASK
        match value:
            case str():
                return self._masked(value)
            case None | bool():
                return value
            case dict():
                return {self.hidden(key): self.hidden(item, str(key)) for key, item in value.items()}
            case list() | tuple():
                return [self.hidden(item) for item in value]
        text = str(value)
        masked = self._masked(text)
        return value if masked == text else masked

    def _masked(self, text: str) -> str:
        for secret in self._texts:
            text = text.replace(secret, MASK)
        return self._numbers.sub(MASK, text) if self._numbers else text

    @cached_property
    def _values(self) -> list[Any]:
        return list(_leaves(self._payload, self._names, inside=False)) if self._names else []

    @cached_property
    def _texts(self) -> list[str]:
        found = {each for value in self._values if isinstance(value, str) for each in _spellings(value)}
        return sorted(found, key=len, reverse=True)

    @cached_property
    def _numbers(self) -> re.Pattern[str] | None:
        numbers = {
            str(value) for value in self._values if isinstance(value, (int, float)) and value not in (True, False)
        }
        found = "|".join(re.escape(each) for each in sorted(numbers) if len(each) >= SHORTEST)
        return re.compile(rf"(?<!\d)(?:{found})(?!\d)") if found else None


NO_SECRETS = Secrets({}, ())


def _leaves(value: Any, names: Collection[str], *, inside: bool) -> Iterator[Any]:
    """Every plain value under one of the names."""
    match value:
        case dict():
            for name, item in value.items():
                yield from _leaves(item, names, inside=inside or name in names)
        case list():
            for item in value:
                yield from _leaves(item, names, inside=inside)
        case _ if inside:
            yield value


def _spellings(text: str) -> Iterator[str]:
    """The ways in which a text is commonly written into a message."""
    if len(text) >= SHORTEST:
        yield from (text, repr(text)[1:-1], json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1])
        yield from (quote(text), quote(text, safe=""), quote_plus(text))
