"""Celery with django-celery-results on PostgreSQL and kept connections: what a Django user gets with a record."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.peers.django_site")

import django
from celery import Celery

from benchmarks.marks import mark
from benchmarks.peers.driving import drive

django.setup()
app = Celery("bench", broker=os.environ["REDIS_URL"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    result_backend="django-db",
    result_extended=True,
    # Otherwise Celery closes Django's connection after every task: a third of the speed.
    db_reuse_max=1_000_000,
    CELERY_DB_REUSE_MAX=1_000_000,
    task_default_queue="bench-results",
    worker_hijack_root_logger=False,
)


@app.task(name="noop")
def noop(number: int, text: str, at: float) -> dict[str, int]:
    mark(at)
    return {"number": number}


def prepare() -> None:
    from django.core.management import call_command
    from django_celery_results.models import TaskResult

    call_command("migrate", verbosity=0)
    TaskResult.objects.all().delete()
    app.control.purge()


if __name__ == "__main__":
    drive(
        prepare=prepare,
        submit=lambda payload: noop.delay(**payload),
        bulk=lambda payloads: [noop.delay(**payload) for payload in payloads],
    )
