"""Following submitted jobs to their end, and counting what became of them."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

from django.db.models import Count

from jobs.models import Attempt, Job
from jobs.states import FINAL, State

T = TypeVar("T")
LOOK_AT_ONCE = 2000
LOOK_EVERY = 0.25
COLUMN_OF = {State.SUCCESS.value: "succeeded", State.FAILURE.value: "dead_lettered", State.REVOKED.value: "revoked"}


@dataclass
class Row:
    """What became of the jobs of one queue and task. `retried` counts tries after the first, not jobs."""

    queue: str
    task: str
    submitted: int = 0
    succeeded: int = 0
    retried: int = 0
    dead_lettered: int = 0
    revoked: int = 0
    still_open: int = 0


@dataclass(frozen=True)
class Followed:
    """The end of a wait. A job is lost when its row is gone or it was not final at the deadline."""

    rows: list[Row]
    missing: int
    seconds: float

    @property
    def lost(self) -> int:
        return self.missing + sum(row.still_open for row in self.rows)

    @property
    def finished(self) -> int:
        return sum(row.submitted - row.still_open for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        per_second = self.finished / self.seconds if self.seconds else 0.0
        return {
            "lost": self.lost,
            "missing": self.missing,
            "finished": self.finished,
            "seconds": round(self.seconds, 2),
            "finished_per_second": round(per_second, 1),
            "queues": [asdict(row) for row in self.rows],
        }


def follow(ids: Sequence[UUID], *, timeout: float, tell: Callable[[int], None]) -> Followed:
    """Wait until every job is final, `timeout` seconds at most; `tell` hears how many are."""
    began = time.monotonic()
    waiting = deque(ids)
    while waiting and time.monotonic() - began < timeout:
        looked_at = [waiting.popleft() for _ in range(min(LOOK_AT_ONCE, len(waiting)))]
        finished = set(Job.objects.filter(pk__in=looked_at, state__in=FINAL).values_list("pk", flat=True))
        waiting.extend(job for job in looked_at if job not in finished)
        tell(len(ids) - len(waiting))
        if waiting:
            time.sleep(LOOK_EVERY * (1 - len(finished) / len(looked_at)))
    rows = count(ids)
    found = sum(row.submitted for row in rows)
    return Followed(rows, missing=len(ids) - found, seconds=time.monotonic() - began)


def count(ids: Sequence[UUID]) -> list[Row]:
    """What the rows say now, by queue and task."""
    table: dict[tuple[str, str], Row] = {}
    for some in in_batches(ids, LOOK_AT_ONCE):
        by_state = Job.objects.filter(pk__in=some).order_by().values_list("queue", "task", "state")
        for queue, task, state, number in by_state.annotate(number=Count("pk")):
            row = table.setdefault((queue, task), Row(queue, task))
            row.submitted += number
            column = COLUMN_OF.get(state, "still_open")
            setattr(row, column, getattr(row, column) + number)
        tried_again = Attempt.objects.filter(job__in=some, outcome__in=["RETRY", "LOST"], delay__isnull=False)
        counted = tried_again.order_by().values_list("job__queue", "job__task").annotate(number=Count("pk"))
        for queue, task, number in counted:
            table.setdefault((queue, task), Row(queue, task)).retried += number
    return [table[place] for place in sorted(table)]


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of at most `size`."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
