"""What the harness does as a part of the project itself; imported once Django knows this run's servers."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from celery import current_app
from django.core.management import call_command
from django.db import Error, connection
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from jobs import cancellation
from jobs.bulk import submit_in_chunks
from jobs.drafting import Draft, draft
from jobs.errors import Conflict, KeyBusy
from jobs.submission import submit as submit_job
from tests.chaos.monkey import tasks  # noqa: F401  registers them
from tests.chaos.monkey.plan import Order

TICK_SECONDS = 5


def migrate() -> None:
    current_app.loader.import_default_modules()
    call_command("migrate", verbosity=0, skip_checks=True)


def submit(order: Order) -> str:
    """The id of the job; raises ConnectionError when the same submit may be tried again."""
    try:
        return str(submit_job(f"monkey_{order.kind}", {}, key=order.key, scope="chaos").id)
    except (Error, KeyBusy) as error:
        connection.close()
        raise ConnectionError(str(error)) from error


def submit_equal(task: str, payload: dict[str, Any], count: int) -> list[str]:
    """Submit `count` equal jobs in chunks that commit one by one; their ids."""
    wanted: Iterable[Draft] = (draft(task, payload) for _ in range(count))
    return [str(each.job_id) for chunk in submit_in_chunks(wanted) for each in chunk]


def cancel(job: str) -> None:
    try:
        cancellation.cancel(UUID(job), actor="monkey", reason="chaos")
    except Conflict:
        return
    except Error as error:
        connection.close()
        raise ConnectionError(str(error)) from error


def schedule_ticks() -> None:
    """For the two beats: a shipped task every few seconds."""
    every = IntervalSchedule.objects.create(every=TICK_SECONDS, period="seconds")
    PeriodicTask.objects.create(name="chaos tick", task="flaky", kwargs='{"failures": 0}', interval=every)
