"""Every page asks PostgreSQL as often about many rows as about few."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from deadletters.models import DeadLetter, ReplayItem, ReplayOperation
from jobs.models import BulkOperation, Effect, Event, Job, Queue
from monitoring import lookout
from monitoring.models import Report, Rollup
from tests.admin.acting import list_of, page_of
from tests.browser.failed import make_failed
from tests.making import make_worker
from tests.monitoring.making import make_attempt

GROUPS = "/admin/deadletters/deadletter/groups/"
KINDS = [("ReadTimeout: no answer", "a1"), ("KeyError: 'vat_rate'", "b2"), ("CardDeclined: no funds", "c3")]


def first(model: Any) -> Callable[[], str]:
    return lambda: page_of(model.objects.order_by("pk").first())


def lists(model: Any) -> Callable[[], str]:
    return lambda: list_of(model)


PAGES: dict[str, Callable[[], str]] = {
    "overview": lambda: "/admin/",
    "groups": lambda: GROUPS,
    "group": lambda: f"{GROUPS}a1/",
    "jobs": lists(Job),
    "job": lambda: page_of(DeadLetter.objects.order_by("pk")[0].job),
    "letters": lists(DeadLetter),
    "letter": first(DeadLetter),
    "queues": lists(Queue),
    "workers": lambda: "/admin/jobs/worker/",
    "replays": lists(ReplayOperation),
    "replay": first(ReplayOperation),
    "bulk operations": lists(BulkOperation),
    "bulk operation": first(BulkOperation),
    "periodic tasks": lists(PeriodicTask),
    "periodic task": first(PeriodicTask),
    "reports": lists(Report),
    "report": first(Report),
    "report's own page": lambda: reverse("report", args=[Report.objects.order_by("pk")[0].pk]),
    "rollups": lists(Rollup),
    "policies": lambda: reverse("admin:jobs_policies"),
    "tasks to submit": lambda: reverse("admin:jobs_submit"),
    "submit": lambda: reverse("admin:jobs_submit_task", args=["process_payment"]),
    "audit trail": lists(Event),
}


def fill(start: int, count: int) -> None:
    """So many more of everything, and as much more about the first of each."""
    for kind in KINDS:
        make_failed(count, *kind)
    letters = list(DeadLetter.objects.order_by("pk").select_related("job"))
    for number in range(start, start + count):
        of_the_house(number)
    bulk, replay = (model.objects.order_by("pk")[0] for model in (BulkOperation, ReplayOperation))
    for number in range(start, start + count):
        of_job(letters[0].job, number)
        of_operations(number, bulk, replay, letters[number])


def of_job(job: Job, number: int) -> None:
    make_attempt(job, number + 1, "RETRY", at=timezone.now(), error=f"error {number}")
    Event.objects.create(job=job, verb="retry now", actor="mira")
    Effect.objects.create(job=job, name=f"effect {number}", outcome={"id": number})
    DeadLetter.objects.create(job=job, task=job.task, queue=job.queue, cause="EXHAUSTED", attempt=number + 10,
                              resolution="REPLAYED", resolved_by="mira", resolved_at=timezone.now())  # fmt: skip


def of_operations(number: int, bulk: BulkOperation, replay: ReplayOperation, letter: DeadLetter) -> None:
    bulk.skips = bulk.skips | {f"reason {number}": 1}
    bulk.save()
    Event.objects.create(verb="bulk operation started", actor="mira", details={"bulk_operation": bulk.pk})
    ReplayItem.objects.create(operation=replay, letter=letter, state="SKIPPED", note=f"why {number}")
    Event.objects.create(verb="replay paused", actor="mira", details={"operation": replay.pk})


def of_the_house(number: int) -> None:
    now = timezone.now()
    BulkOperation.objects.create(verb="cancel", reason="x", created_by="mira")
    ReplayOperation.objects.create(reason="x", pace=1, created_by="mira", filter={"fingerprint": "a1"})
    minutes, _ = IntervalSchedule.objects.get_or_create(every=15, period="minutes")
    PeriodicTask.objects.create(name=f"schedule {number}", task="flaky", interval=minutes)
    PeriodicTask.objects.update(date_changed=now - timedelta(days=2))
    day = {"period_start": now - timedelta(days=number), "period_end": now}
    Report.objects.create(kind="daily", data={"title": "Queues, daily"}, **day)
    Rollup.objects.create(minute=now, queue=f"queue {number}", task="flaky")
    Queue.objects.create(name=f"queue {number}")
    make_worker(id=uuid4(), name=f"w{number}@here", concurrency=2)


def asked(boss: Client, addresses: dict[str, str]) -> dict[str, list[str]]:
    """The queries of each page."""
    said = {}
    for page, address in addresses.items():
        with CaptureQueriesContext(connection) as queries:
            assert boss.get(address).status_code == 200, address
        said[page] = [query["sql"][:200] for query in queries.captured_queries]
    return said


def test_every_page_asks_the_same_number_of_questions_about_more_rows(
    boss: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The overview would read the metrics again every five seconds.
    monkeypatch.setattr(lookout, "LOOKS_EVERY", 3600.0)
    fill(0, 2)
    addresses = {page: address() for page, address in PAGES.items()}
    # The first look fills what a process remembers.
    asked(boss, addresses)
    few = asked(boss, addresses)
    fill(2, 12)
    many = asked(boss, addresses)
    assert {page: many[page] for page in PAGES if len(many[page]) > len(few[page])} == {}
    assert {page: queries for page, queries in few.items() if len(queries) > 25} == {}
