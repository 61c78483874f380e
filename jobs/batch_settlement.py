"""Settling many jobs of one process in one statement, under the same guard as one job alone."""

import logging
import time
from collections.abc import Sequence
from typing import Any

from jobs import connections, querysets
from jobs.execution import log_fields
from jobs.logs import job_fields
from jobs.outcomes import ErrorReport, Outcome, Released, Succeeded
from jobs.querysets import Held
from jobs.settlement import Settled, Verdict, landed, log_settled, settle
from jobs.states import State

logger = logging.getLogger("jobs")
SUCCESS = Verdict(State.SUCCESS, "SUCCESS")
RELEASED_AS = {"RELEASED": State.PENDING, "REVOKED": State.REVOKED}


def succeed_together(done: Sequence[tuple[Held, Succeeded]], *, until: float) -> None:
    """Record these successes, waiting for the database until time.monotonic() passes `until`.

    What the statement did not move was fenced, or moved by an earlier one whose answer was lost.
    """
    names = _guards([job for job, _ in done])
    names["results"] = [outcome.as_json for _, outcome in done]
    rows = connections.patiently(lambda _: connections.own().rows(querysets.SUCCEED_TOGETHER, names), until=until)
    recorded = {row[0] for row in rows}
    for job, outcome in done:
        if job.id not in recorded and not landed(job, SUCCESS):
            settle(job, outcome, until=until)
        else:
            _tell(job, outcome, State.SUCCESS)


def release_together(jobs: Sequence[Held], why: str, *, until: float | None = None) -> None:
    """Give back jobs that were claimed and not begun; those somebody wants cancelled are revoked."""
    names = _guards(jobs) | {"why": why}
    deadline = time.monotonic() if until is None else until
    rows = connections.patiently(lambda _: connections.own().rows(querysets.RELEASE, names), until=deadline)
    recorded = {job_id: RELEASED_AS[outcome] for job_id, outcome in rows}
    given_back = Released(ErrorReport("RELEASED", why))
    for job in jobs:
        if job.id in recorded:
            _tell(job, given_back, recorded[job.id])


def _tell(job: Held, outcome: Outcome, state: State) -> None:
    if logger.isEnabledFor(logging.INFO):
        with job_fields(**log_fields(job)):
            log_settled(job, outcome, Settled(state))


def _guards(jobs: Sequence[Held]) -> dict[str, Any]:
    return {
        "ids": [job.id for job in jobs],
        "attempts": [job.attempt for job in jobs],
        "tokens": [job.claim_token for job in jobs],
    }
