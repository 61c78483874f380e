"""Letters to arrange tests with: written by the real road, an attempt that fails for good."""

from typing import Any

from deadletters.models import DeadLetter
from jobs import registry
from jobs.execution import execute
from jobs.models import Job
from tests.making import make_job, make_worker


def exhaust(job: Job) -> DeadLetter:
    """Run a job that has no retries left, so that it fails for good; its open letter."""
    make_worker()
    Job.objects.filter(pk=job.pk).update(max_retries=0)
    execute(registry.find(job.task), job.pk)
    return DeadLetter.objects.open().get(job=job)


def make_letter(message: str = "no luck", **options: Any) -> DeadLetter:
    return exhaust(make_job("always_fails", {"message": message}, **options))
