"""One attempt: claim the job, run the body, settle what came of it."""

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

from billiard.common import terminate_handler_fired  # type: ignore[attr-defined]
from celery.exceptions import Retry, SoftTimeLimitExceeded
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import transaction

from jobs import connections, querysets, registry
from jobs.diagnosis import report
from jobs.effects import RunningJob
from jobs.errors import Abandon, InvalidJob
from jobs.logs import running_job
from jobs.outcomes import Abandoned, Failed, NotStorable, Outcome, Succeeded
from jobs.policies import policy
from jobs.processes import me, this_process
from jobs.querysets import Held
from jobs.redaction import Secrets
from jobs.settlement import Settled, landed, settle, settle_in_transaction, verdict
from jobs.signals import ticket_refused
from jobs.states import State
from jobs.storable import dumps

logger = logging.getLogger("jobs")


def execute(task: Any, job_id: UUID) -> Settled | None:
    """Claim and run one job. None: nothing to run, because the ticket was a duplicate or came at the wrong time."""
    if terminate_handler_fired():
        raise SystemExit("An earlier body swallowed the wish to end this process: it takes no other job.")
    deadline = time.monotonic() + task.policy.hard_limit
    held = claim(job_id, until=deadline)
    if not held:
        ticket_refused.send(sender=None, job_id=job_id)
        return None
    [job] = held
    with running_job(**log_fields(job)):
        logger.info("job claimed", extra={"state": State.STARTED, "retries": job.retries})
        if task.policy.atomic:
            return _run_and_settle_together(task, job, deadline)
        return settle(job, run(task, job), until=deadline)


def claim(job_id: UUID, *, until: float) -> list[Held]:
    """The job, given to this process, or none if it may not run now; waits for the database until `until`."""
    process = this_process()
    names = {"id": job_id, "token": uuid4(), "worker": me.worker, "pid": process.pid, "ticks": process.ticks}
    return connections.patiently(lambda tries: _claim_once(names, tries), until=until)


def run(task: Any, job: Held) -> Outcome:
    """Run the body. However it ends becomes a value; only a process told to end unwinds through here."""
    storing = False
    try:
        task.job = RunningJob(job, until=time.monotonic() + task.policy.hard_limit)
        task.request.update(retries=job.retries, args=(), kwargs=job.payload)
        arguments = _arguments(task, job)
        with _soft_limit(task.policy.soft_limit):
            result = task.run(**arguments)
        storing = True
        text = dumps(result, field="/result", limit=settings.RESULT_LIMIT_BYTES)
    except BaseException as error:  # whatever a body raises, or its result when it is read, is data; see outcome_of
        if terminate_handler_fired():
            raise SystemExit from error
        return NotStorable(report(error, code="NOT_STORABLE")) if storing else outcome_of(error)
    finally:
        task.job = None  # so that code outside an attempt cannot use the last one's
    return Succeeded(result, text)


def _arguments(task: Any, job: Held) -> dict[str, Any]:
    """What the body is called with; a payload its task no longer takes is not worth a second try."""
    try:
        return registry.converted(task, job.payload)
    except InvalidJob as error:
        raise Abandon(str(error)) from error


def outcome_of(error: BaseException) -> Outcome:
    """What an exception out of a body means."""
    match error:
        case Retry():
            return Failed(report(error.exc or error), delay=_seconds(error.when))
        case Abandon():
            return Abandoned(report(error))
        case SoftTimeLimitExceeded():
            return Failed(report(error, code="SOFT_TIME_LIMIT"))
        case _:
            return Failed(report(error))


def _claim_once(names: dict[str, Any], tries: int) -> list[Held]:
    """After an outage the earlier try may have committed under the same token: look before giving up."""
    rows = connections.own().rows(querysets.CLAIM, names)
    if not rows and tries:
        rows = connections.own().rows(querysets.CLAIMED_WITH, names)
    return [Held(*row) for row in rows]


def _run_and_settle_together(task: Any, job: Held, deadline: float) -> Settled:
    """Body and success in one transaction: its database effects happen exactly once."""
    outcome: Outcome | None = None
    try:
        with transaction.atomic():
            outcome = run(task, job)
            if isinstance(outcome, Succeeded):
                settled = settle_in_transaction(job, outcome)
                if settled.state is None:
                    raise _Fenced
                return settled
            transaction.set_rollback(True)
    except _Fenced:
        logger.warning("attempt fenced, its transaction rolled back")
        return settle(job, outcome or Failed(report(_Fenced())), until=deadline)
    except DatabaseError as error:
        if isinstance(outcome, Succeeded) and _committed_after_all(task, job, outcome, deadline):
            return Settled(State.SUCCESS)
        outcome = Failed(report(error))
    return settle(job, outcome, until=deadline)


class _Fenced(Exception):
    """Another attempt has the job: nothing this body wrote may stay."""


def _committed_after_all(task: Any, job: Held, outcome: Outcome, deadline: float) -> bool:
    """The answer to COMMIT was lost: the row says whether it happened."""
    found = verdict(job, outcome, task.policy, chance=0.0)
    return connections.patiently(lambda _: landed(job, found), until=deadline)


@contextmanager
def _soft_limit(seconds: float) -> Iterator[None]:
    """Raise SoftTimeLimitExceeded in the body after `seconds`, and never outside it."""
    if not seconds:
        yield
        return
    inside = True

    def on_alarm(*_: object) -> None:
        if inside:
            raise SoftTimeLimitExceeded(seconds)

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        inside = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _seconds(when: Any) -> float | None:
    """How long retry(countdown= or eta=) asked to wait; JobTask.retry has made it seconds."""
    return float(when) if isinstance(when, (int, float)) else None


def log_fields(job: Held) -> dict[str, Any]:
    """What `jobs.logs` needs to know of a job."""
    asked = {"request_id": job.trace["request_id"]} if job.trace and "request_id" in job.trace else {}
    return asked | {
        "secrets": Secrets(job.payload, policy(job.task).redacted),
        "job_id": str(job.id),
        "idempotency_key": job.idempotency_key,
        "task": job.task,
        "queue": job.queue,
        "attempt": job.attempt,
        "worker": me.name,
    }
