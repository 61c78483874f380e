"""Settling: an attempt's outcome becomes the job's next state, in one statement guarded by the fencing number."""

import json
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import transaction

from api.prepared import on_django
from jobs import connections, querysets
from jobs.backoff import death_delay, retry_delay
from jobs.errors import JobError, Unanswered
from jobs.models import Event
from jobs.outcomes import (
    Abandoned,
    Cancelled,
    Died,
    ErrorReport,
    Failed,
    NotRegistered,
    NotStorable,
    Outcome,
    Released,
    Succeeded,
    TimedOut,
)
from jobs.policies import Policy, policy
from jobs.querysets import Held
from jobs.signals import job_exhausted
from jobs.states import FINAL, State
from jobs.submission import submit

logger = logging.getLogger("jobs")
BROUGHT_BY_THE_BODY = (Succeeded, Failed, Abandoned, NotStorable)
Run = Callable[[str, dict[str, Any]], list[tuple[Any, ...]]]
EXHAUSTED, ABANDONED, POISON = "EXHAUSTED", "ABANDONED", "POISON"
NOT_STORABLE, NOT_REGISTERED = "NOT_STORABLE", "NOT_REGISTERED"


@dataclass(frozen=True)
class Verdict:
    """What an outcome means for the job: the state it goes to and what its Attempt row says."""

    state: State
    recorded: str
    delay: float = 0.0
    retried: int = 0
    died: int = 0
    cause: str = ""
    yields: bool = True


@dataclass(frozen=True)
class Exhausted:
    """A job that will not recover by itself: what the letter is written from."""

    job: Held
    cause: str
    error: ErrorReport
    worker_name: str
    signal: int | None = None
    exit_code: int | None = None


@dataclass(frozen=True)
class Settled:
    """What was recorded. `state` is None when the attempt was fenced and its outcome dropped."""

    state: State | None
    delay: float = 0.0


def verdict(job: Held, outcome: Outcome, rules: Policy, *, chance: float) -> Verdict:
    """What follows from an outcome, given the job's counters; `chance` is a random number in [0, 1)."""
    match outcome:
        case Succeeded():
            return Verdict(State.SUCCESS, "SUCCESS")
        case Released():
            return Verdict(State.PENDING, "RELEASED")
        case Cancelled():
            return Verdict(State.REVOKED, "REVOKED")
        case Abandoned():
            return Verdict(State.FAILURE, "FAILURE", cause=ABANDONED)
        case NotStorable():
            return Verdict(State.FAILURE, "FAILURE", cause=NOT_STORABLE, yields=False)
        case Died() if job.deaths + 1 < job.max_deaths:
            return Verdict(State.RETRY, "LOST", delay=death_delay(job.deaths + 1), died=1)
        case Died():
            return Verdict(State.FAILURE, "LOST", died=1, cause=POISON)
        case Failed() | TimedOut() | NotRegistered() if job.retries < job.max_retries:
            return Verdict(State.RETRY, "RETRY", delay=_delay(job, outcome, rules, chance), retried=1)
        case NotRegistered():
            return Verdict(State.FAILURE, "FAILURE", cause=NOT_REGISTERED, yields=False)
        case _:
            return Verdict(State.FAILURE, "FAILURE", cause=EXHAUSTED, yields=False)


def settle(job: Held, outcome: Outcome, *, until: float | None = None) -> Settled:
    """Record the outcome of an attempt, waiting for the database until time.monotonic() passes `until`.

    Raises the database's error when it is no outage, or lasts longer, and Unanswered when a job was
    exhausted and nobody wrote its letter; in both cases nothing is recorded.
    """
    found = verdict(job, outcome, policy(job.task), chance=random.random())
    result = outcome.as_json if isinstance(outcome, Succeeded) else ""
    deadline = time.monotonic() if until is None else until
    settled = connections.patiently(lambda tries: _record(job, outcome, found, result, tries), until=deadline)
    log_settled(job, outcome, settled)
    return settled


def settle_in_transaction(job: Held, outcome: Succeeded) -> Settled:
    """Record a success inside the caller's open transaction, so that it commits with the body's own effects."""
    found = verdict(job, outcome, policy(job.task), chance=0.0)
    settled = _write(on_django, job, outcome, found, outcome.as_json)
    return settled or Settled(None)


def landed(job: Held, found: Verdict) -> bool:
    """Whether a settlement whose answer was lost is in the database after all."""
    names = {"state": found.state.value, "outcome": found.recorded}
    return bool(connections.own().rows(querysets.LANDED, _guard(job) | names))


def _record(job: Held, outcome: Outcome, found: Verdict, result: str, tries: int) -> Settled:
    """One try. After an outage the earlier try may have committed, which the row tells."""
    settled = _settle_once(job, outcome, found, result)
    if settled is not None:
        return settled
    if tries and landed(job, found):
        return Settled(found.state, found.delay)
    if isinstance(outcome, BROUGHT_BY_THE_BODY):
        _fence(job, found)
    return Settled(None)


def _settle_once(job: Held, outcome: Outcome, found: Verdict, result: str) -> Settled | None:
    """Settlements that tell somebody (a letter, a callback) share a transaction with what they tell."""
    if found.cause or (job.callback_url and found.state in FINAL):
        with transaction.atomic():
            return _write(on_django, job, outcome, found, result)
    return _write(connections.own().rows, job, outcome, found, result)


def _write(run: Run, job: Held, outcome: Outcome, found: Verdict, result: str) -> Settled | None:
    if isinstance(outcome, Succeeded):
        if not run(querysets.SUCCEED, _guard(job) | {"result": result}):
            return None
        _call_back(job, State.SUCCESS, outcome.result, None)
        return Settled(State.SUCCESS)
    rows = run(querysets.END_ATTEMPT, _guard(job) | _changes(outcome.error, found) | _ending(outcome))
    if not rows:
        return None
    [(recorded, worker_name)] = rows
    if recorded == "REVOKED":
        return Settled(State.REVOKED)
    if found.cause:
        _bury(Exhausted(job, found.cause, outcome.error, worker_name, **_ending(outcome)))
        _call_back(job, State.FAILURE, None, outcome.error)
    return Settled(found.state, found.delay)


def _guard(job: Held) -> dict[str, Any]:
    return {"id": job.id, "attempt": job.attempt, "token": job.claim_token}


def _changes(error: ErrorReport, found: Verdict) -> dict[str, Any]:
    return {
        "state": found.state.value,
        "final": found.state in FINAL,
        "outcome": found.recorded,
        "yields": found.yields,
        "retried": found.retried,
        "died": found.died,
        "delay": found.delay,
        "error_code": error.code,
        "error": error.message,
        "traceback": error.traceback,
        "fingerprint": error.fingerprint,
    }


def _ending(outcome: Outcome) -> dict[str, int | None]:
    """How the process ended, when that is what happened."""
    died = outcome if isinstance(outcome, Died) else None
    return {"signal": died.signal if died else None, "exit_code": died.exit_code if died else None}


def _delay(job: Held, outcome: Outcome, rules: Policy, chance: float) -> float:
    if isinstance(outcome, Failed) and outcome.delay is not None:
        return outcome.delay
    backoff = rules.backoff
    return retry_delay(
        job.retries, base=backoff.base, factor=backoff.factor, cap=backoff.cap, jitter=backoff.jitter, chance=chance
    )


def _bury(exhausted: Exhausted) -> None:
    answers = job_exhausted.send(sender=None, exhausted=exhausted)
    if not any(answer for _, answer in answers):
        raise Unanswered(f"Job {exhausted.job.id} failed for good and no app wrote its dead letter.")


def _call_back(job: Held, state: State, result: Any, error: ErrorReport | None) -> None:
    """A callback is a job of its own, committed with the outcome it tells of; callbacks have none themselves."""
    if not job.callback_url:
        return
    body = {"task_id": str(job.id), "task_type": job.task, "status": state.value, "result": result}
    body["error"] = {"code": error.code, "message": error.message} if error else None
    if len(json.dumps(result)) > settings.PAYLOAD_LIMIT_BYTES // 2:
        body |= {"result": None, "result_omitted": "too large; read it from the API"}
    key = f"callback:{job.id}:{job.attempt}"
    try:
        submit("deliver_webhook", {"url": job.callback_url, "body": body}, key=key, scope="callback")
    except JobError as refused:
        # An address that was fine at submit may be forbidden by now; that must not stop the settlement.
        Event.objects.create(job_id=job.id, verb="callback refused", reason=str(refused), details={})


def _fence(job: Held, found: Verdict) -> None:
    """Somebody else has the job by now: note that this attempt came back, and drop what it brought."""
    late = {"outcome": found.recorded, "worker": job.worker_id, "pid": job.child_pid}
    connections.own().rows(querysets.FENCED, _guard(job) | late)


def log_settled(job: Held, outcome: Outcome, settled: Settled) -> None:
    fields: dict[str, Any] = {"state": settled.state, "attempt": job.attempt, "job_id": str(job.id), "task": job.task}
    if settled.state is None:
        logger.warning("attempt fenced, outcome dropped", extra=fields | {"outcome": type(outcome).__name__})
        return
    if not isinstance(outcome, Succeeded):
        fields |= {"error_code": outcome.error.code, "delay": round(settled.delay, 2)}
    logger.info("job settled", extra=fields)
