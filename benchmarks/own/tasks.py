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


@shared_task(base=JobTask, name="bench_flaky_each")
def bench_flaky_each(number: int, text: str, at: float) -> dict[str, int]:
    return _one_in_twenty_fails_once(number, bench_flaky_each.job.retries)


@shared_task(base=JobTask, name="bench_flaky_batch")
def bench_flaky_batch(number: int, text: str, at: float) -> dict[str, int]:
    return _one_in_twenty_fails_once(number, bench_flaky_batch.job.retries)


def _one_in_twenty_fails_once(number: int, retries: int) -> dict[str, int]:
    mark()
    if number % 20 == 0 and retries == 0:
        raise ConnectionError("one in twenty")
    return {"number": number}
