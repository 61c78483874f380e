"""The overview's charts: sums of rollups over steps of time, so that they survive every restart."""

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection

from monitoring.histograms import BUCKETS, percentile


@dataclass(frozen=True)
class Range:
    """How far back, in steps of how long, and for how many seconds an answer may be given again."""

    length: timedelta
    step: timedelta
    keeps: float


RANGES = {
    "1h": Range(timedelta(hours=1), timedelta(minutes=1), 5),
    "24h": Range(timedelta(hours=24), timedelta(minutes=15), 30),
    "7d": Range(timedelta(days=7), timedelta(hours=2), 120),
}
OUTCOMES = ("succeeded", "retried", "failed", "dead_lettered")
# One pass over the rollups of a range; date_bin and sums of array elements are more than a queryset can say.
_STATEMENT = f"""
SELECT extract(epoch FROM date_bin(%(step)s, minute, 'epoch'))::bigint AS at, queue,
       {", ".join(f"sum({name})" for name in OUTCOMES)},
       ARRAY[{", ".join(f"sum(wait_buckets[{index + 1}])" for index in range(BUCKETS))}]::bigint[]
  FROM monitoring_rollup
 WHERE minute >= date_bin(%(step)s, now() - %(length)s, 'epoch')
 GROUP BY 1, 2
"""
_answers: dict[str, tuple[float, dict[str, Any]]] = {}


def charts(name: str) -> dict[str, Any]:
    """Numbers per step, the oldest first; None where nothing waited."""
    made, answer = _answers.get(name, (float("-inf"), {}))
    if time.monotonic() - made > RANGES[name].keeps:
        answer = _charts(RANGES[name])
        _answers[name] = time.monotonic(), answer
    return answer


def _charts(span: Range) -> dict[str, Any]:
    with connection.cursor() as cursor:
        given: Any = {"step": span.step, "length": span.length}
        cursor.execute(_STATEMENT, given)
        rows = {(at, queue): rest for at, queue, *rest in cursor.fetchall()}
        cursor.execute("SELECT extract(epoch FROM now())::bigint")
        [now] = cursor.fetchone()
    step = int(span.step.total_seconds())
    last = now // step * step
    times = list(range(last - int(span.length.total_seconds()), last + step, step))
    return {
        "step": step,
        "at": times,
        **{name: [_sum(rows, at, index) for at in times] for index, name in enumerate(OUTCOMES)},
        "wait_p95": {queue: [_wait(rows.get((at, queue))) for at in times] for queue in settings.PRIORITIES},
    }


def _sum(rows: dict[tuple[int, str], list[Any]], at: int, index: int) -> int:
    return sum(int(rows[at, queue][index]) for queue in settings.JOB_QUEUES if (at, queue) in rows)


def _wait(row: list[Any] | None) -> float | None:
    """Seconds."""
    found = percentile([count or 0 for count in row[-1]], 0.95) if row else None
    return None if found is None else max(found / 1000, 0.001)
