"""Answering `job_exhausted`: the letter commits with the FAILURE it is about, or neither does."""

from typing import Any

from django.dispatch import receiver

from deadletters.models import DeadLetter
from jobs.settlement import Exhausted
from jobs.signals import job_exhausted


@receiver(job_exhausted)
def bury(exhausted: Exhausted, **_: Any) -> bool:
    """Write the letter of a job that will not recover by itself."""
    job, error = exhausted.job, exhausted.error
    DeadLetter.objects.create(
        job_id=job.id,
        attempt=job.attempt,
        task=job.task,
        queue=job.queue,
        cause=exhausted.cause,
        reason=f"{error.code}: {error.message}" if error.message else error.code,
        fingerprint=error.fingerprint,
        signal=exhausted.signal,
        exit_code=exhausted.exit_code,
        worker_name=exhausted.worker_name,
    )
    return True
