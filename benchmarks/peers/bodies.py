"""A body that workers import by its path."""

from benchmarks.marks import mark


def noop(number: int, text: str, at: float) -> dict[str, int]:
    mark(at)
    return {"number": number}
