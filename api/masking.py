"""Showing data without its secrets."""

from collections.abc import Collection
from typing import Any

MASK = "••••"


def masked(value: Any, names: Collection[str]) -> Any:
    """A copy in which whatever stands under one of these names, at any depth, is a mask."""
    if not names:
        return value
    match value:
        case dict():
            return {key: MASK if key in names else masked(item, names) for key, item in value.items()}
        case list():
            return [masked(item, names) for item in value]
        case _:
            return value
