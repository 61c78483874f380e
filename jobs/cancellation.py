"""What a person may do to a job that is not a dead letter: cancel it, have it retried now, reinstate it."""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction

from jobs.errors import Conflict
from jobs.models import Event, Job
from jobs.noting import note
from jobs.policies import policy
from jobs.states import State
from jobs.submission import KEY_TAKEN_OVER


@dataclass(frozen=True)
class Cancelled:
    """What came of asking: gone at once, or noted for the worker that runs it."""

    at_once: bool


def cancel(job_id: UUID, *, actor: str, reason: str = "") -> Cancelled:
    """Cancel a job: waiting, at once; running, as soon as its worker ends it; raises Conflict when it is final.

    It is a row, so it works with every worker offline. Raises Job.DoesNotExist.
    """
    with transaction.atomic():
        mine = Job.objects.filter(pk=job_id)
        if mine.cancel_waiting():
            _note(job_id, "cancelled", actor, reason, state=State.REVOKED)
            return Cancelled(at_once=True)
        if mine.ask_running_to_stop():
            _note(job_id, "cancel requested", actor, reason, state=State.STARTED)
            return Cancelled(at_once=False)
        job = mine.get()
        if job.state == State.STARTED:
            return Cancelled(at_once=False)
        if job.is_final:
            raise Conflict(f"Job {job_id} is {job.state} already and cannot be cancelled.")
    # It changed hands between the two guarded updates.
    return cancel(job_id, actor=actor, reason=reason)


def retry_now(job_id: UUID, *, actor: str, reason: str = "") -> None:
    """Make a job that waits for its retry or its time due at once; raises Conflict when it does not wait."""
    with transaction.atomic():
        if not Job.objects.filter(pk=job_id).retry_now():
            job = Job.objects.get(pk=job_id)
            raise Conflict(f"Job {job_id} is {job.state}: only a job that waits for later can be run now.")
        _note(job_id, "retry now", actor, reason, state=State.PENDING)


def reinstate(job_id: UUID, *, actor: str, reason: str = "") -> None:
    """Run a cancelled or expired job after all, under its own id and key; raises Conflict when that cannot be."""
    with transaction.atomic():
        job = Job.objects.get(pk=job_id)
        refuse_when_key_was_taken_over(job)
        rules = policy(job.task)
        revived = Job.objects.filter(pk=job_id).revive(
            state=State.REVOKED, max_retries=rules.max_retries, max_deaths=rules.max_deaths
        )
        if not revived:
            raise Conflict(f"Job {job_id} is {job.state}: only a revoked job can be reinstated.")
        _note(job_id, "reinstated", actor, reason, state=State.PENDING)


def refuse_when_key_was_taken_over(job: Job) -> None:
    """Two jobs must never run under one key; the submit that took it over left an event on the earlier job."""
    if Event.objects.filter(job=job, verb=KEY_TAKEN_OVER).exists():
        raise Conflict(f"Job {job.pk} cannot run again: its idempotency key belongs to a later job by now.")


def had_their_key_taken_over(ids: Collection[UUID]) -> set[UUID]:
    """The jobs among these that must not run again."""
    return set(Event.objects.filter(job__in=ids, verb=KEY_TAKEN_OVER).values_list("job_id", flat=True))


def _note(job_id: UUID, verb: str, actor: str, reason: str, *, state: State) -> None:
    note([Event(job_id=job_id, verb=verb, actor=actor, reason=reason)], state=state)
