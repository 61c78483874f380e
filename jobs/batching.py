"""Answering a doorbell: claim some due jobs of a task at once, run each, settle what is finished together.

What a crash can repeat is bounded by recording finished work every 50 ms of it. One slow job holds nobody
back: a thread beside it records what is finished and gives back what has not begun.
"""

import time
from typing import Any
from uuid import uuid4

from billiard.common import terminate_handler_fired  # type: ignore[attr-defined]

from jobs import connections, doorbell, querysets
from jobs.doorbell import BUDGET_SECONDS, Bell
from jobs.execution import log_fields, logger, run
from jobs.handful import Handful, relieved
from jobs.logs import running_job
from jobs.outcomes import Succeeded
from jobs.processes import me, this_process
from jobs.querysets import Held
from jobs.rescue import record_death
from jobs.settlement import settle
from jobs.states import State

FIRST_SIZE, LARGEST_SIZE = 20, 500
# What one claim should keep a process busy for.
WORTH_SECONDS = 0.025
INTERRUPTED = "Its batch was interrupted."


class Pace:
    """How long a job of each task has taken in this process, lately; and so how many to claim."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def size(self, task: str) -> int:
        known = self._seconds.get(task, WORTH_SECONDS / FIRST_SIZE)
        return max(1, min(LARGEST_SIZE, int(WORTH_SECONDS / known)))

    def learn(self, task: str, seconds: float) -> None:
        before = self._seconds.get(task, seconds)
        self._seconds[task] = max(1e-6, (before + seconds) / 2)


class _Memory:
    """What this process remembers between doorbells."""

    pace = Pace()
    # What an answer could not put away before it ended in an error.
    left: Handful | None = None


def answer(task: Any, queue: str) -> None:
    """Work off due jobs of one task and queue, until there are none or the budget is spent."""
    bell, began = Bell(task.name, queue), time.monotonic()
    ends, until = began + BUDGET_SECONDS, began + task.policy.hard_limit
    doorbell.answered(bell)
    if _Memory.left is not None:
        _settle_what_was_left(_Memory.left, until)
    more = True
    while more and time.monotonic() < ends and not terminate_handler_fired():
        jobs, more = claim_due(bell, _Memory.pace.size(task.name), until=until)
        if more:
            doorbell.ring([bell])
        _work_off(task, Handful(jobs, until=until, on_release=lambda: _ring(bell)), ends)


def claim_due(bell: Bell, size: int, *, until: float) -> tuple[list[Held], bool]:
    """Up to `size` due jobs, given to this process, and whether there are more; waits for the database until `until`.

    A job that has died comes alone.
    """
    process = this_process()
    names = {
        "token": uuid4(), "worker": me.worker, "pid": process.pid, "ticks": process.ticks,
        "task": bell.task, "queue": bell.queue, "size": size,
    }  # fmt: skip
    statement = querysets.CLAIM_DUE_SOLO if bell.queue == "solo" else querysets.CLAIM_DUE

    def once(tries: int) -> tuple[list[Held], bool]:
        if tries and (mine := [job for job in _held_by_this_process() if job.claim_token == names["token"]]):
            return mine, True
        rows = connections.own().rows(statement, names)
        return [Held(*row[:-1]) for row in rows], bool(rows) and _are_more(rows[0][-1], len(rows), size)

    return connections.patiently(once, until=until)


def _are_more(seen: int, claimed: int, size: int) -> bool:
    return seen >= size or seen > claimed


def _work_off(task: Any, handful: Handful, ends: float) -> None:
    """Run the jobs of a handful; whatever happens, what is finished is recorded and what has not begun given back."""
    ticket, began, ran = task.request.id, time.monotonic(), 0
    # A process that is told to end does not wait for the database first.
    why, until = INTERRUPTED, 0.0
    _Memory.left = handful
    with relieved(handful):
        try:
            while time.monotonic() < ends and not terminate_handler_fired() and (job := handful.next()):
                _run_one(task, handful, job)
                ran += 1
            why, until = "Its batch took long.", handful.until
        finally:
            task.request.update(id=ticket)
            handful.put_away(why, until=until)
    _Memory.left = None
    if ran:
        _Memory.pace.learn(task.name, (time.monotonic() - began) / ran)


def _run_one(task: Any, handful: Handful, job: Held) -> None:
    task.request.update(id=str(job.id))
    with running_job(**log_fields(job)):
        logger.info("job claimed", extra={"state": State.STARTED, "retries": job.retries})
        outcome = run(task, job)
        # A callback is committed with the outcome it tells of, which takes a transaction of its own.
        if isinstance(outcome, Succeeded) and not job.callback_url:
            handful.finish(job, outcome)
        else:
            settle(job, outcome, until=handful.until)


def _settle_what_was_left(handful: Handful, until: float) -> None:
    """What was begun and cannot be recorded is charged, or a job that can never be settled would run for ever."""
    try:
        handful.put_away(INTERRUPTED, until=until)
    finally:
        for job in _held_by_this_process():
            record_death(job, "NOT_SETTLED", "It was begun, and its batch ended without settling it.")
        _Memory.left = None


def _held_by_this_process() -> list[Held]:
    rows = connections.own().rows(querysets.HELD_IN_BATCHES, {"worker": me.worker})
    return [job for job in (Held(*row) for row in rows) if job.child_pid == this_process().pid]


def _ring(bell: Bell) -> None:
    doorbell.ring([bell])
