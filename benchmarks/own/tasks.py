"""The same empty body under both deliveries."""

from celery import shared_task

from benchmarks.marks import mark
from jobs.task import JobTask


@shared_task(base=JobTask, name="bench_each")
def bench_each(number: int, text: str, at: float) -> dict[str, int]:
    mark(at)
    return {"number": number}


@shared_task(base=JobTask, name="bench_batch")
def bench_batch(number: int, text: str, at: float) -> dict[str, int]:
    mark(at)
    return {"number": number}


@shared_task(base=JobTask, name="bench_flaky", max_retries=None)
def bench_flaky(number: int, text: str, at: float) -> dict[str, int]:
    """One in twenty fails, once."""
    mark(at)
    if number % 20 == 0 and bench_flaky.job.retries == 0:
        raise ConnectionError("one in twenty")
    return {"number": number}
