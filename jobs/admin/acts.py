"""What the admin lets a person do to jobs, queues and schedules, each through its domain verb."""

from collections.abc import Sequence
from uuid import UUID

from django_celery_beat.models import PeriodicTask

from api.confirmation import Verb, row_by_row
from api.tally import Tally, on_each
from jobs.cancellation import cancel, had_their_key_taken_over, reinstate, retry_now
from jobs.errors import JobError
from jobs.models import Job, Queue
from jobs.pausing import pause, resume
from jobs.schedules import switch
from jobs.together import why_not_cancel, why_not_reinstate, why_not_retry

REFUSED = (JobError, Job.DoesNotExist)


def cancel_all(jobs: Sequence[Job], *, actor: str, reason: str) -> Tally:
    return on_each(jobs, lambda job: cancel(job.pk, actor=actor, reason=reason), refusals=REFUSED)


def retry_all(jobs: Sequence[Job], *, actor: str, reason: str) -> Tally:
    return on_each(jobs, lambda job: retry_now(job.pk, actor=actor, reason=reason), refusals=REFUSED)


def reinstate_all(jobs: Sequence[Job], *, actor: str, reason: str) -> Tally:
    return on_each(jobs, lambda job: reinstate(job.pk, actor=actor, reason=reason), refusals=REFUSED)


def pause_all(queues: Sequence[Queue], *, actor: str, reason: str) -> Tally:
    return on_each(queues, lambda queue: pause(queue.pk, actor=actor, reason=reason), refusals=REFUSED)


def resume_all(queues: Sequence[Queue], *, actor: str, reason: str) -> Tally:
    return on_each(queues, lambda queue: resume(queue.pk, actor=actor, reason=reason), refusals=REFUSED)


def enable_all(schedules: Sequence[PeriodicTask], *, actor: str, reason: str) -> Tally:
    return on_each(schedules, lambda each: switch(each, enabled=True, actor=actor, reason=reason), refusals=REFUSED)


def disable_all(schedules: Sequence[PeriodicTask], *, actor: str, reason: str) -> Tally:
    return on_each(schedules, lambda each: switch(each, enabled=False, actor=actor, reason=reason), refusals=REFUSED)


def _not_reinstated(jobs: Sequence[Job]) -> dict[UUID, str]:
    taken = had_their_key_taken_over([job.pk for job in jobs])
    return {job.pk: why for job in jobs if (why := why_not_reinstate(job, taken))}


JOB_VERBS = (
    Verb(
        name="cancel",
        label="Cancel",
        done="Cancelled",
        permission="jobs.cancel_job",
        consequence="Waiting jobs are revoked at once. Running ones are ended by their worker within seconds.",
        act=cancel_all,
        refusals=row_by_row(why_not_cancel),
        is_destructive=True,
    ),
    Verb(
        name="retry_now",
        label="Retry now",
        done="Made due now",
        permission="jobs.retry_job",
        consequence="Jobs that wait for a retry, or for their time, become due at once. Their retries still count.",
        act=retry_all,
        refusals=row_by_row(why_not_retry),
        needs_reason=False,
    ),
    Verb(
        name="reinstate",
        label="Reinstate",
        done="Reinstated",
        permission="jobs.retry_job",
        consequence="Revoked jobs run after all, from the start, under their own ids and idempotency keys.",
        act=reinstate_all,
        refusals=_not_reinstated,
    ),
)
QUEUE_VERBS = (
    Verb(
        name="pause",
        label="Pause",
        done="Paused",
        permission="jobs.pause_queue",
        consequence="Nothing of these queues starts until they are resumed. What runs already finishes.",
        act=pause_all,
        refusals=row_by_row(lambda queue: "it is paused already" if queue.is_paused else None),
    ),
    Verb(
        name="resume",
        label="Resume",
        done="Resumed",
        permission="jobs.pause_queue",
        consequence="Waiting jobs of these queues start again.",
        act=resume_all,
        refusals=row_by_row(lambda queue: None if queue.is_paused else "it is not paused"),
        needs_reason=False,
    ),
)
SCHEDULE_VERBS = (
    Verb(
        name="enable",
        label="Enable",
        done="Enabled",
        permission="django_celery_beat.change_periodictask",
        consequence="Beat submits their jobs again, from their next tick on. What they missed is not made up for.",
        act=enable_all,
        refusals=row_by_row(lambda schedule: "it is enabled already" if schedule.enabled else None),
    ),
    Verb(
        name="disable",
        label="Disable",
        done="Disabled",
        permission="django_celery_beat.change_periodictask",
        consequence="Nothing of these schedules is submitted until they are enabled. Jobs they have made still run.",
        act=disable_all,
        refusals=row_by_row(lambda schedule: None if schedule.enabled else "it is disabled already"),
    ),
)
