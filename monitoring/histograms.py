"""Durations as histograms: counts per bucket add up over minutes, queues and tasks, which percentiles do not."""

from collections.abc import Sequence

# Milliseconds. Bucket i counts durations from BOUNDS_MS[i - 1] up to, and without, BOUNDS_MS[i]; the last has no end.
# Rows already written rely on them: changing one bound makes old and new minutes mean different things.
BOUNDS_MS = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 900_000, 3_600_000)
BUCKETS = len(BOUNDS_MS) + 1


def percentile(buckets: Sequence[int], fraction: float) -> float | None:
    """The duration in ms below which `fraction` of all lie, interpolated inside its bucket; None without any.

    The last bucket has no upper bound to interpolate to: its lower one is returned, and is too low.
    """
    wanted = sum(buckets) * fraction
    seen = 0
    for index, count in enumerate(buckets):
        if count and seen + count >= wanted:
            return _between(index, (wanted - seen) / count)
        seen += count
    return None


def _between(index: int, share: float) -> float:
    low = BOUNDS_MS[index - 1] if index else 0
    high = BOUNDS_MS[index] if index < len(BOUNDS_MS) else low
    return low + (high - low) * share
