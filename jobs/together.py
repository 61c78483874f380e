"""Doing to many jobs what `cancellation` does to one, with as many statements as for a few."""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from django.utils import timezone

from api.tally import Tally
from jobs.cancellation import had_their_key_taken_over
from jobs.models import Event, Job
from jobs.noting import note
from jobs.policies import policy
from jobs.querysets import JobQuerySet
from jobs.states import State


def why_not_cancel(job: Job) -> str | None:
    return f"it is {job.get_state_display().lower()} already" if job.is_final else None


def why_not_retry(job: Job) -> str | None:
    if job.state == State.RETRY or (job.state == State.PENDING and job.run_at > timezone.now()):
        return None
    return "it is due already" if job.state == State.PENDING else f"it is {job.get_state_display().lower()}"


def why_not_reinstate(job: Job, taken: Collection[UUID]) -> str | None:
    if job.state != State.REVOKED:
        return f"it is {job.get_state_display().lower()}"
    return "its idempotency key belongs to a later job" if job.pk in taken else None


def cancel_together(jobs: Sequence[Job], *, actor: str, reason: str, details: dict[str, Any]) -> Tally:
    """Cancel jobs that the caller's transaction holds: waiting ones at once, running ones by their workers."""
    waiting, running = (
        [job for job in jobs if not job.is_final and (job.state == State.STARTED) is is_running]
        for is_running in (False, True)
    )
    not_asked = [job for job in running if job.cancel_requested_at is None]
    act = _acting(actor, reason, details)
    act("cancelled", waiting, JobQuerySet.cancel_waiting, State.REVOKED)
    act("cancel requested", not_asked, JobQuerySet.ask_running_to_stop, State.STARTED)
    return _tally(jobs, why_not_cancel)


def retry_together(jobs: Sequence[Job], *, actor: str, reason: str, details: dict[str, Any]) -> Tally:
    """Make jobs that the caller's transaction holds due now, as far as they wait for a retry or for their time."""
    # Asked once: the time of a job may come between two looks.
    tally = _tally(jobs, why_not_retry)
    early = [job for job in jobs if job.pk not in tally.skipped]
    _acting(actor, reason, details)("retry now", early, JobQuerySet.retry_now, State.PENDING)
    return tally


def reinstate_together(jobs: Sequence[Job], *, actor: str, reason: str, details: dict[str, Any]) -> Tally:
    """Run revoked jobs that the caller's transaction holds after all, except those whose keys later jobs have."""
    taken = had_their_key_taken_over([job.pk for job in jobs])
    by_task: defaultdict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        if why_not_reinstate(job, taken) is None:
            by_task[job.task].append(job)
    for task, some in by_task.items():
        rules = policy(task)
        revive = partial(
            JobQuerySet.revive, state=State.REVOKED, max_retries=rules.max_retries, max_deaths=rules.max_deaths
        )
        _acting(actor, reason, details)("reinstated", some, revive, State.PENDING)
    return _tally(jobs, lambda job: why_not_reinstate(job, taken))


def _acting(actor: str, reason: str, details: dict[str, Any]) -> Callable[..., None]:
    def act(verb: str, jobs: Sequence[Job], move: Callable[[Any], int], state: State) -> None:
        """Do it to these jobs, which are in `state` then, and leave an event of each."""
        if not jobs:
            return
        move(Job.objects.filter(pk__in=[job.pk for job in jobs]))
        about = {"verb": verb, "actor": actor, "reason": reason, "details": details}
        note([Event(job_id=job.pk, **about) for job in jobs], state=state)

    return act


def _tally(jobs: Sequence[Job], why_not: Callable[[Job], str | None]) -> Tally:
    skipped = {job.pk: why for job in jobs if (why := why_not(job))}
    return Tally([job.pk for job in jobs if job.pk not in skipped], skipped)
