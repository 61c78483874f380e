"""The page of one job: its attempts on one axis of time, its errors and how they differ, and everything it did."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from api.readfirst import duration
from jobs.models import Attempt, Effect, Event, Job
from jobs.states import State

WIDTH = 1000.0
TICKS = 6
SHORTEST = 6.0
MOST_EVENTS = 200
SEGMENTS = {Attempt.Outcome.RETRY: "failure", Attempt.Outcome.FAILURE: "failure", Attempt.Outcome.LOST: "failure"}


@dataclass(frozen=True)
class Try:
    """One attempt, past, present or next. Times may be missing where it never started."""

    number: int
    due: datetime | None
    started: datetime | None
    ended: datetime | None
    kind: str
    title: str
    text: str
    error: str = ""
    traceback: str = ""
    difference: tuple[str, ...] = ()

    def moments(self) -> list[datetime]:
        return [moment for moment in (self.due, self.started, self.ended) if moment is not None]


@dataclass(frozen=True)
class Segment:
    x: float
    width: float
    y: int
    height: int
    kind: str


@dataclass(frozen=True)
class Told:
    at: datetime
    text: str
    actor: str
    reason: str


class Story:
    """What the page shows of a job; read once."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.now = timezone.now()
        self.attempts = list(job.attempts.order_by("number"))
        self.tries = [*self._past(), *self._present()]
        self.effects = list(Effect.objects.filter(job=job).order_by("pk"))

    def rows(self) -> list[tuple[Try, list[Segment]]]:
        return [(each, self._segments(each)) for each in self.tries]

    def axis(self) -> list[str]:
        first, last = self._span()
        return [duration((last - first) * index / (TICKS - 1)) for index in range(TICKS)]

    def events(self) -> list[Told]:
        """What happened, in order: submitted, each attempt's start and end, and what people and the house did."""
        job = self.job
        told = [Told(job.created_at, "submitted", "", "")]
        for each in self.attempts:
            told += [Told(each.started_at, f"attempt {each.number} started", "", "")] if each.started_at else []
            told.append(Told(each.ended_at, f"attempt {each.number}: {_ended(each)}", "", ""))
        events = Event.objects.filter(job=job).order_by("at", "pk")[:MOST_EVENTS]
        told += [Told(event.at, event.verb, event.actor, event.reason) for event in events]
        if job.state in (State.STARTED, State.SUCCESS) and job.started_at:
            told.append(Told(job.started_at, f"attempt {job.attempt} started", "", ""))
        if job.state == State.SUCCESS and job.finished_at:
            told.append(Told(job.finished_at, "succeeded", "", ""))
        return sorted(told, key=lambda each: each.at)

    def _past(self) -> Iterator[Try]:
        before = ""
        for attempt in self.attempts:
            whole = f"{attempt.error}\n{attempt.traceback}".strip()
            times = attempt.due_at, attempt.started_at, attempt.ended_at
            yield Try(
                attempt.number,
                *times,
                kind=SEGMENTS.get(Attempt.Outcome(attempt.outcome), "wait"),
                title=attempt.error_code or attempt.get_outcome_display(),
                text=_timing(*times, attempt.worker_name),
                error=attempt.error,
                traceback=attempt.traceback,
                difference=_difference(before, whole),
            )
            before = whole

    def _present(self) -> Iterator[Try]:
        job = self.job
        due, started = job.run_at, job.started_at
        match job.state:
            case State.STARTED:
                yield Try(
                    job.attempt, due, started, self.now, "started", "Running", _timing(due, started, self.now, "")
                )
            case State.SUCCESS:
                ended = job.finished_at
                yield Try(job.attempt, due, started, ended, "success", "Succeeded", _timing(due, started, ended, ""))
            case State.RETRY | State.PENDING:
                said = f"Due in {duration(due - self.now)}" if due > self.now else "Due now"
                last = self.attempts[-1].ended_at if self.attempts else job.created_at
                yield Try(
                    job.attempt + 1, last, None, max(due, self.now), "next", said, f"of {job.max_retries + 1} tries"
                )

    def _span(self) -> tuple[datetime, datetime]:
        moments = [moment for each in self.tries for moment in each.moments()] or [self.job.created_at]
        first, last = min(moments), max(moments)
        return first, max(last, first + timedelta(milliseconds=10))

    def _segments(self, each: Try) -> list[Segment]:
        if each.kind == "next":
            return [self._segment(each.due, each.ended, 6, 8, "next")] if each.due and each.ended else []
        start = each.started or each.ended
        found = [self._segment(each.due, start, 8, 4, "wait")] if each.due and start and each.due < start else []
        if each.started and each.ended:
            found.append(self._segment(each.started, each.ended, 3, 14, each.kind))
        return found

    def _segment(self, start: datetime, end: datetime, y: int, height: int, kind: str) -> Segment:
        first, last = self._span()
        whole = (last - first).total_seconds()
        left = (start - first).total_seconds() / whole * WIDTH
        width = max((end - start).total_seconds() / whole * WIDTH, SHORTEST)
        return Segment(round(min(left, WIDTH - width), 1), round(width, 1), y, height, kind)


def _timing(due: datetime | None, started: datetime | None, ended: datetime | None, worker: str) -> str:
    waited = f"waited {duration(max(started - due, timedelta()))}" if started and due else ""
    ran = f"ran {duration(ended - started)}" if started and ended else "never started"
    return ", ".join(filter(None, [waited, f"{ran}{' on ' if worker else ''}{worker}"]))


def _ended(attempt: Attempt) -> str:
    what = attempt.get_outcome_display().lower()
    return f"{what}, {attempt.error_code}" if attempt.error_code else what


def _difference(before: str, now: str) -> tuple[str, ...]:
    """How this error differs from the one before it: nothing for the first, and for the same again."""
    if not before or before == now:
        return ()
    lines = difflib.unified_diff(before.splitlines(), now.splitlines(), lineterm="", n=1)
    return tuple(line for line in lines if not line.startswith(("---", "+++")))
