"""What came of doing something to many objects."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass
class Tally:
    """Primary keys: those that were done, and those that were left alone, each with the reason."""

    done: list[Any] = field(default_factory=list)
    skipped: dict[Any, str] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        self.done += other.done
        self.skipped |= other.skipped


def on_each(objects: Iterable[T], act: Callable[[T], object], *, refusals: tuple[type[Exception], ...]) -> Tally:
    """Act on one object after the other; one that refuses does not undo or stop the others."""
    tally = Tally()
    for one in objects:
        key = getattr(one, "pk", one)
        try:
            act(one)
        except refusals as refusal:
            tally.skipped[key] = str(refusal)
        else:
            tally.done.append(key)
    return tally
