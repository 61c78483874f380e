"""How many jobs of a queue were unfinished in each minute of the last hour: today's number, counted backwards."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from django.db.models import F, Sum
from django.utils import timezone

from monitoring.models import Rollup
from monitoring.queues import HOUR
from monitoring.rollups import MINUTE, floor_minute

MINUTES = 60
WIDTH, HEIGHT = 240, 46
# A handful of jobs must not look like a mountain.
LOWEST_TOP = 10


def backlog(now: Mapping[str, int]) -> dict[str, list[int]]:
    """Per queue, the oldest minute first. Replays and reinstatements are not seen, so no minute goes below zero."""
    first = floor_minute(timezone.now()) - HOUR
    change = F("submitted") - F("succeeded") - F("dead_lettered") - F("revoked")
    rows = Rollup.objects.filter(minute__gte=first).order_by().values("queue", "minute").annotate(change=Sum(change))
    changes: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for row in rows:
        changes[row["queue"]][(row["minute"] - first) // MINUTE] = row["change"]
    return {queue: _backwards(number, changes[queue]) for queue, number in now.items()}


def drawn(numbers: Sequence[int], *, is_area: bool = False) -> str:
    """Points of an SVG line, or of the area under it."""
    top = max([*numbers, LOWEST_TOP])
    across = WIDTH / max(len(numbers) - 1, 1)
    points = [
        f"{index * across:.1f},{HEIGHT - 2 - number / top * (HEIGHT - 6):.1f}" for index, number in enumerate(numbers)
    ]
    return " ".join([f"0,{HEIGHT}", *points, f"{WIDTH},{HEIGHT}"] if is_area else points)


def _backwards(number: int, changes: Mapping[int, int]) -> list[int]:
    found = [number]
    for minute in range(MINUTES - 1, -1, -1):
        number = max(0, number - changes.get(minute, 0))
        found.append(number)
    return found[::-1]
