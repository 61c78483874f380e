"""Settling many jobs of one process in one statement, under the same guard as one job alone."""

import logging
import time
from collections.abc import Sequence
from typing import Any

from jobs import connections, querysets
from jobs.execution import log_fields
from jobs.logs import job_fields
from jobs.outcomes import Succeeded
from jobs.querysets import Held
from jobs.settlement import Settled, Verdict, landed, log_settled, settle
from jobs.states import State

logger = logging.getLogger("jobs")
SUCCESS = Verdict(State.SUCCESS, "SUCCESS")


def succeed_together(done: Sequence[tuple[Held, Succeeded]], *, until: float) -> None:
    """Record these successes, waiting for the database until time.monotonic() passes `until`.

    What the statement did not move was fenced, or moved by an earlier try whose answer was lost.
    """
    names = _guards([job for job, _ in done])
    names["results"] = [outcome.as_json for _, outcome in done]
    tried = 0

    def once(tries: int) -> set[Any]:
        nonlocal tried
        tried = tries
        return {row[0] for row in connections.own().rows(querysets.SUCCEED_TOGETHER, names)}

    recorded = connections.patiently(once, until=until)
    for job, outcome in done:
        if job.id not in recorded and not (tried and landed(job, SUCCESS)):
            settle(job, outcome, until=until)
        elif logger.isEnabledFor(logging.INFO):
            with job_fields(**log_fields(job)):
                log_settled(job, outcome, Settled(State.SUCCESS))


def release_together(jobs: Sequence[Held], why: str, *, until: float | None = None) -> None:
    """Give back jobs that were claimed and not begun; those somebody wants cancelled are revoked."""
    names = _guards(jobs) | {"why": why}
    deadline = time.monotonic() if until is None else until
    rows = connections.patiently(lambda _: connections.own().rows(querysets.RELEASE, names), until=deadline)
    logger.info("jobs released", extra={"jobs": len(rows), "reason": why})


def _guards(jobs: Sequence[Held]) -> dict[str, Any]:
    return {
        "ids": [job.id for job in jobs],
        "attempts": [job.attempt for job in jobs],
        "tokens": [job.claim_token for job in jobs],
    }
