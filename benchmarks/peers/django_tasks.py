"""Bodies that workers of Django peers import by their path."""

from django_tasks import task

from benchmarks.marks import mark


@task()
def noop(number: int, text: str, at: float) -> dict[str, int]:
    mark(at)
    return {"number": number}


def plain(number: int, text: str, at: float) -> dict[str, int]:
    mark(at)
    return {"number": number}
