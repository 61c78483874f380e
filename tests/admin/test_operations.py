"""Acts on more jobs than one request may touch."""

from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from jobs import operations
from jobs.browsing import Wanted
from jobs.bulk import submit_many
from jobs.cancellation import cancel
from jobs.drafting import draft
from jobs.driving import driven_by
from jobs.models import BulkOperation, Event, Job
from jobs.policies import policy
from jobs.submission import KEY_TAKEN_OVER
from tests.admin import acting
from tests.admin.acting import messages_of, page_of, text_of
from tests.admin.stepping import finish, handled, step
from tests.fleet import Fleet
from tests.making import make_job
from tests.waiting import eventually

FAR = "2100-01-01T00:00:00Z"
LOW = Wanted(queue="low", payload={})
Done = BulkOperation.State.DONE


def waiting(count: int, queue: str = "low", **options: Any) -> list[UUID]:
    """The ids of jobs that wait for a time far away, in order."""
    drafts = [draft("flaky", {"failures": 0}, queue=queue, run_at=FAR, **options) for _ in range(count)]
    return sorted(written.job_id for written in submit_many(drafts))


def in_state(state: str) -> int:
    return Job.objects.filter(state=state, queue="low").count()


def choose_all(client: Client, verb: str, query: str, **more: str) -> Any:
    return acting.choose_all(client, verb, Job.objects.filter(queue="low"), query, **more)


def test_five_thousand_jobs_are_cancelled_once_though_the_worker_is_killed_in_the_middle(
    boss: Client, fleet: Fleet, in_the_way: Any
) -> None:
    ids = waiting(5000)
    others = waiting(3, queue="high")
    lock = in_the_way(Job, ids[2000])
    fleet.dispatcher()
    fleet.worker("first", queues="system")
    asked = choose_all(boss, "cancel", "queue=low")
    assert "Cancel 5,000 jobs?" in text_of(asked)
    assert not BulkOperation.objects.exists(), "nothing happens before the answer"
    page = choose_all(boss, "cancel", "queue=low", everything="1", reason="wrong batch")
    operation = BulkOperation.objects.get()
    assert page.redirect_chain[-1][0] == page_of(operation)
    eventually(lambda: handled(operation) == 2000, within=60, what="the operation to meet the locked job")
    fleet.kill("first")
    lock.rollback()
    assert (handled(operation), in_state("REVOKED")) == (2000, 2000)
    fleet.worker("second", queues="system")
    eventually(lambda: handled(operation) == 5000 and operation.state == Done, within=90, what="the rest")
    assert (operation.total, operation.skipped, in_state("REVOKED")) == (5000, 0, 5000)
    assert Job.objects.filter(pk__in=others, state="PENDING").count() == 3
    events = Event.objects.filter(verb="cancelled", actor="boss", reason="wrong batch")
    assert events.filter(details={"bulk_operation": operation.pk}).count() == 5000
    assert events.values("job").distinct().count() == 5000, "each job once"


def test_an_aborted_operation_leaves_the_rest_alone(boss: Client, fleet: Fleet, in_the_way: Any) -> None:
    ids = waiting(1500)
    lock = in_the_way(Job, ids[600])
    fleet.dispatcher()
    fleet.worker(queues="system")
    choose_all(boss, "cancel", "queue=low", everything="1", reason="oops")
    operation = BulkOperation.objects.get()
    eventually(lambda: handled(operation) == 600, within=60, what="the operation to meet the locked job")
    after = boss.post(reverse("admin:jobs_operation_abort", args=[operation.pk]), follow=True)
    lock.rollback()
    assert handled(operation) == 600
    assert (operation.state, operation.skipped, operation.skips) == ("ABORTED", 900, {"aborted by boss": 900})
    driver = Job.objects.get(pk=operation.driver)
    eventually(lambda: Job.objects.get(pk=driver.pk).state == "SUCCESS", within=30, what="its driver to end")
    assert (in_state("REVOKED"), in_state("PENDING")) == (600, 900)
    assert "Aborted by boss 900" in text_of(after)
    again = boss.post(reverse("admin:jobs_operation_abort", args=[operation.pk]), follow=True)
    assert messages_of(again) == [f"Not aborted: Bulk operation {operation.pk} is ABORTED already."]


def test_an_operation_is_audited_with_who_when_why_filter_and_counts(boss: Client, few: None) -> None:
    waiting(4, tags=["vip"])
    choose_all(boss, "cancel", "queue=low&q=tag:vip", everything="1", reason="wrong batch")
    operation = finish(BulkOperation.objects.get())
    begun, done = Event.objects.filter(verb__startswith="bulk operation").order_by("pk")
    about = {"bulk_operation": operation.pk, "act": "cancel"}
    assert begun.details == about | {"filter": {"queue": "low", "tag": "vip"}, "total": 4}
    assert done.details == about | {"done": 4, "skipped": 0, "skips": {}}
    assert {(each.actor, each.reason) for each in (begun, done)} == {("boss", "wrong batch")}
    told = text_of(boss.get(page_of(operation)))
    for words in (
        "wrong batch",
        "queue = low",
        "tag = vip",
        "4 of 4 jobs 100%",
        "bulk operation started by boss",
        "Ended",
    ):
        assert words in told


def test_what_cannot_be_made_due_is_left_alone_and_says_why(boss: Client, few: None) -> None:
    later, due = waiting(4), [make_job(queue="low") for _ in range(2)]
    ended = make_job(queue="low")
    cancel(ended.pk, actor="x")
    assert "Retry now 6 jobs?" in text_of(choose_all(boss, "retry_now", "queue=low"))
    choose_all(boss, "retry_now", "queue=low", everything="1", reason="")
    operation = finish(BulkOperation.objects.get())
    assert (operation.done, operation.skipped, operation.skips) == (4, 2, {"it is due already": 2})
    assert not Job.objects.filter(pk__in=later, run_at__gt=timezone.now()).exists()
    assert Job.objects.filter(pk__in=[job.pk for job in due], dispatched_at=None).count() == 0, "their tickets are out"
    assert "It is due already 2" in text_of(boss.get(page_of(operation)))


def test_jobs_that_end_meanwhile_or_come_later_are_accounted_for() -> None:
    ids = waiting(5)
    operation = operations.start("cancel", LOW.as_json(), actor="mira", reason="x")
    cancel(ids[3], actor="omar")
    waiting(2)
    finish(operation)
    assert (operation.total, operation.done, operation.skips) == (5, 4, {"they finished before their turn": 1})
    assert in_state("PENDING") == 2


def test_an_operation_whose_driver_was_cancelled_is_carried_on() -> None:
    waiting(5)
    operation = operations.start("cancel", LOW.as_json(), actor="mira", reason="x")
    assert operations.adopt() == 0
    cancel(operation.driver, actor="omar")
    left = operation.driver
    assert operations.adopt() == 1
    finish(operation)
    assert operation.done == 5
    assert operations.advance(driven_by(BulkOperation.objects.all(), operation.pk, left)) is None


def test_a_step_asks_the_same_number_of_questions_about_more_jobs() -> None:
    waiting(500)
    operation = operations.start("cancel", LOW.as_json(), actor="mira", reason="x")
    with CaptureQueriesContext(connection) as asked:
        step(operation)
    assert handled(operation) == operations.PER_STEP
    assert len(asked) <= 12, "\n".join(query["sql"][:150] for query in asked.captured_queries)


def test_who_only_looks_sees_the_operation_and_no_button(person: Any, boss: Client, few: None) -> None:
    waiting(4)
    viewer, canceller = person("jobs.view_job"), person("jobs.view_job", "jobs.cancel_job")
    choose_all(viewer, "cancel", "queue=low", everything="1", reason="x")
    assert not BulkOperation.objects.exists()
    choose_all(canceller, "cancel", "queue=low", everything="1", reason="x")
    operation = BulkOperation.objects.get()
    abort = reverse("admin:jobs_operation_abort", args=[operation.pk])
    assert abort not in viewer.get(page_of(operation)).content.decode()
    assert abort in canceller.get(page_of(operation)).content.decode()
    assert viewer.post(abort).status_code == 403
    assert boss.get(abort).status_code == 405
    assert person("jobs.cancel_job").get(page_of(operation)).status_code == 403


def test_a_reason_is_asked_for_and_a_secret_chooses_no_jobs(boss: Client, few: None) -> None:
    waiting(4)
    assert "This field is required" in text_of(choose_all(boss, "cancel", "queue=low", everything="1", reason=" "))
    body = {"to": "a@example.com", "subject": "Hi", "body": "hunter2"}
    submit_many([draft("send_email", body, queue="low", run_at=FAR) for _ in range(4)])
    refused = choose_all(boss, "cancel", "q=payload.body:hunter2", everything="1", reason="x")
    assert "A redacted field cannot choose jobs for a bulk operation." in messages_of(refused)
    assert not BulkOperation.objects.exists()


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(payload={}),
        Wanted(status="RETRY", task="flaky", queue="low", tag="vip", payload={"user.id": "7"}),
        Wanted(since=timezone.now(), until=timezone.now(), identity="0198", payload={}),
    ],
)
def test_a_filter_is_kept_whole(wanted: Wanted) -> None:
    assert Wanted.from_json(wanted.as_json()) == wanted


def test_jobs_are_chosen_by_the_beginning_of_their_ids_too() -> None:
    [job] = waiting(1)
    assert operations.count("cancel", {"identity": str(job)[:13]}) == 1
    assert operations.count("cancel", {"identity": "no such"}) == 0


def test_more_jobs_than_a_page_may_count_are_counted_by_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "MOST_COUNTED", 3)
    waiting(5)
    operation = operations.start("cancel", LOW.as_json(), actor="mira", reason="x")
    assert operation.total == 3
    step(operation)
    operation.refresh_from_db()
    assert (operation.total, operation.done) == (5, 5)


def test_revoked_jobs_are_reinstated_and_says_why_one_is_not(boss: Client, few: None) -> None:
    ids = waiting(6)
    for each in ids:
        cancel(each, actor="omar")
    left = waiting(1)
    Event.objects.create(job_id=ids[2], verb=KEY_TAKEN_OVER)
    assert "Reinstate 6 jobs?" in text_of(choose_all(boss, "reinstate", "queue=low"))
    choose_all(boss, "reinstate", "queue=low", everything="1", reason="was right")
    operation = BulkOperation.objects.get()
    cancel(left[0], actor="omar")
    finish(operation)
    assert (operation.done, operation.skips) == (5, {"its idempotency key belongs to a later job": 1})
    events = Event.objects.filter(verb="reinstated", actor="boss", reason="was right")
    assert set(events.values_list("job", flat=True)) == set(ids) - {ids[2]}
    revived = Job.objects.filter(pk__in=ids, state="PENDING", finished_at=None, error_code=None)
    assert revived.filter(max_retries=policy("flaky").max_retries).count() == 5
    assert Job.objects.get(pk=left[0]).state == "REVOKED", "revoked after the operation began"


def test_a_step_reinstates_more_jobs_with_the_same_number_of_questions() -> None:
    for each in waiting(300):
        cancel(each, actor="omar")
    operation = operations.start("reinstate", LOW.as_json(), actor="mira", reason="x")
    with CaptureQueriesContext(connection) as asked:
        step(operation)
    assert handled(operation) == operations.PER_STEP
    assert len(asked) <= 12, "\n".join(query["sql"][:150] for query in asked.captured_queries)
