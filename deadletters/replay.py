"""Replaying: the job behind a letter runs again from the start, under its own id and its own key."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import transaction

from api.tally import Tally, on_each
from deadletters import resolution
from deadletters.models import DeadLetter
from jobs.cancellation import refuse_when_key_was_taken_over
from jobs.drafting import Draft, draft
from jobs.errors import Conflict
from jobs.models import Event, Job, JobLabel
from jobs.noting import note
from jobs.policies import policy
from jobs.states import State

REPLAYED = "replayed"


def replay(letter: DeadLetter, *, actor: str, reason: str, payload: Mapping[str, Any] | None = None) -> None:
    """Run the job of an open letter again, with other arguments if `payload` is given; both versions are kept.

    The dispatcher issues the ticket. Raises Conflict when the letter is not open or the job cannot run
    again, and InvalidJob, naming the field, when the task does not take the payload.
    """
    with transaction.atomic():
        job = _job_of(letter)
        refuse_when_key_was_taken_over(job)
        edited = None if payload is None else draft(job.task, payload, tags=job.tags, job_id=job.pk)
        versions = {} if edited is None else {"payload_before": job.payload, "payload_after": edited.payload}
        resolution.close(letter, DeadLetter.Resolution.REPLAYED, actor=actor, reason=reason, **versions)
        _revive(job, edited)
        details = {"letter": letter.pk, "edited": edited is not None}
        note([Event(job=job, verb=REPLAYED, actor=actor, reason=reason, details=details)], state=State.PENDING)


def replay_all(letters: Iterable[DeadLetter], *, actor: str, reason: str) -> Tally:
    """Replay each letter in a transaction of its own."""
    refusals = resolution.REFUSALS
    return on_each(letters, lambda letter: replay(letter, actor=actor, reason=reason), refusals=refusals)


def why_not(letter: DeadLetter) -> str | None:
    """Why a replay would be refused, as far as the rows at hand tell, or None."""
    if closed := resolution.why_not(letter):
        return closed
    return None if letter.job.state == State.FAILURE else f"its job is {letter.job.state}"


def _job_of(letter: DeadLetter) -> Job:
    job = Job.objects.filter(pk=letter.job_id).first()
    if job is None:
        raise Conflict(f"Dead letter {letter.pk} no longer exists.")
    return job


def _revive(job: Job, edited: Draft | None) -> None:
    rules = policy(job.task)
    limits = {"max_retries": rules.max_retries, "max_deaths": rules.max_deaths}
    changes = {} if edited is None else {"payload": edited.payload}
    if not Job.objects.filter(pk=job.pk).revive(state=State.FAILURE, **limits, **changes):
        raise Conflict(f"Job {job.pk} is {job.state}: only a job that failed for good can be replayed.")
    if edited is not None:
        # Labels say what the payload says; those of tags come back with the draft.
        JobLabel.objects.filter(job=job).delete()
        JobLabel.objects.bulk_create(JobLabel(job=job, label=label) for label in edited.labels())
