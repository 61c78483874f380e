"""Acts on more dead letters than one request may touch."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from deadletters.bulk import chosen
from deadletters.drop import drop_all
from deadletters.models import DeadLetter, ReplayOperation
from jobs import operations
from jobs.models import BulkOperation, Event, Job, JobLabel
from tests.admin import acting
from tests.admin.acting import messages_of, page_of, text_of
from tests.admin.stepping import finish, handled, step
from tests.browser.failed import make_failed
from tests.fleet import Fleet
from tests.waiting import eventually

VERBS = ["replay", "drop", "purge"]
GROUP = {"fingerprint": "a1"}
ERROR = "ReadTimeout: no answer"


def letters(count: int, fingerprint: str = "a1") -> list[DeadLetter]:
    return make_failed(count, ERROR, fingerprint)


def resolved(count: int, fingerprint: str = "a1") -> list[DeadLetter]:
    made = letters(count, fingerprint)
    DeadLetter.objects.filter(fingerprint=fingerprint).resolve("DROPPED", by="omar", reason="over")
    return made


def choose_all(client: Client, verb: str, query: str, **more: str) -> Any:
    return acting.choose_all(client, verb, DeadLetter.objects.filter(fingerprint="a1"), query, **more)


def test_three_thousand_letters_are_dropped_once_though_the_worker_is_killed_in_the_middle(
    boss: Client, fleet: Fleet, in_the_way: Any
) -> None:
    made, others = letters(3000), letters(3, "b2")
    lock = in_the_way(DeadLetter, made[1200].pk)
    fleet.dispatcher()
    fleet.worker("first", queues="system")
    assert "Drop 3,000 dead letters?" in text_of(choose_all(boss, "drop", "fingerprint=a1&resolution=OPEN"))
    assert not BulkOperation.objects.exists(), "nothing happens before the answer"
    query = "fingerprint=a1&resolution=OPEN"
    page = choose_all(boss, "drop", query, everything="1", reason="customers were told")
    operation = BulkOperation.objects.get()
    assert page.redirect_chain[-1][0] == page_of(operation)
    eventually(lambda: handled(operation) == 1200, within=60, what="the operation to meet the locked letter")
    fleet.kill("first")
    lock.rollback()
    dropped = DeadLetter.objects.filter(resolution="DROPPED", resolved_by="boss", resolved_reason="customers were told")
    assert (handled(operation), dropped.count()) == (1200, 1200)
    fleet.worker("second", queues="system")
    eventually(lambda: handled(operation) == 3000 and operation.finished_at, within=90, what="the rest")
    assert (operation.state, operation.skipped, dropped.filter(fingerprint="a1").count()) == ("DONE", 0, 3000)
    assert DeadLetter.objects.open().filter(pk__in=[letter.pk for letter in others]).count() == 3
    events = Event.objects.filter(verb="dropped", actor="boss", details__bulk_operation=operation.pk)
    assert events.count() == events.values("details__letter").distinct().count() == 3000, "each letter once"
    assert Job.objects.filter(letters__fingerprint="a1", state="FAILURE").count() == 3000


def test_many_letters_chosen_by_a_filter_are_replayed_at_a_pace(boss: Client, fleet: Fleet) -> None:
    letters(1200)
    letters(2, "b2")
    fleet.dispatcher()
    fleet.worker(queues="system", size=1)
    asked = text_of(choose_all(boss, "replay", "fingerprint=a1&cause__exact=EXHAUSTED"))
    assert "Replay 1,200 dead letters?" in asked
    assert "Pace, jobs per second" in asked
    wrong = choose_all(boss, "replay", "fingerprint=a1", everything="1", reason="x", pace="0")
    assert "greater than or equal to 0.01" in text_of(wrong)
    query = "fingerprint=a1&cause__exact=EXHAUSTED"
    page = choose_all(boss, "replay", query, everything="1", reason="partner is back", pace="900")
    operation = ReplayOperation.objects.get()
    assert page.redirect_chain[-1][0] == page_of(operation)
    assert operation.filter == {"fingerprint": "a1", "cause": "EXHAUSTED"}
    assert (operation.pace, operation.reason, operation.created_by) == (900, "partner is back", "boss")
    eventually(lambda: ReplayOperation.objects.get().state == "DONE", within=60, what="the replay")
    operation.refresh_from_db()
    assert (operation.total, operation.done, operation.skipped) == (1200, 1200, 0)
    assert set(DeadLetter.objects.open().values_list("fingerprint", flat=True)) == {"b2"}


def test_an_aborted_purge_leaves_the_rest_alone(boss: Client, fleet: Fleet, in_the_way: Any) -> None:
    made, still_open = resolved(1500), letters(4, "b2")
    lock = in_the_way(DeadLetter, made[600].pk)
    fleet.dispatcher()
    fleet.worker(queues="system")
    choose_all(boss, "purge", "", everything="1", reason="spring cleaning")
    operation = BulkOperation.objects.get()
    assert (operation.filter, operation.total) == ({}, 1500)
    eventually(lambda: handled(operation) == 600, within=60, what="the operation to meet the locked letter")
    after = boss.post(reverse("admin:jobs_operation_abort", args=[operation.pk]), follow=True)
    lock.rollback()
    assert handled(operation) == 600
    assert (operation.state, operation.skips) == ("ABORTED", {"aborted by boss": 900})
    assert "Aborted by boss 900" in text_of(after)
    eventually(lambda: Job.objects.get(pk=operation.driver).is_final, within=30, what="its driver to end")
    assert DeadLetter.objects.count() == 900 + len(still_open)
    assert Job.objects.filter(state="FAILURE").count() == 900 + len(still_open), "jobs go with their letters"
    events = Event.objects.filter(verb="purged", details__bulk_operation=operation.pk)
    assert sum(len(event.details["jobs"]) for event in events) == 600


def test_a_group_is_dropped_in_the_background_when_it_is_large(boss: Client, few: None) -> None:
    letters(4)
    letters(1, "b2")
    drop = "/admin/deadletters/deadletter/groups/a1/drop/"
    asked = text_of(boss.get(drop))
    assert "Drop 4 letters?" in asked
    assert "worked through in the background" in asked
    page = boss.post(drop, {"reason": "enough"}, follow=True)
    operation = finish(BulkOperation.objects.get())
    assert page.redirect_chain[-1][0] == page_of(operation)
    assert (operation.verb, operation.filter, operation.done) == ("drop", GROUP, 4)
    begun, done = Event.objects.filter(verb__startswith="bulk operation").order_by("pk")
    about = {"bulk_operation": operation.pk, "act": "drop"}
    assert begun.details == about | {"filter": GROUP, "total": 4}
    assert done.details == about | {"done": 4, "skipped": 0, "skips": {}}
    told = text_of(boss.get(page_of(operation)))
    for words in ("Drop 4 dead letters", "4 of the open dead letters matched", "fingerprint = a1", "Dropped 4"):
        assert words in told


def test_letters_that_others_resolve_meanwhile_or_that_come_later_are_accounted_for() -> None:
    made = letters(5)
    dropping = operations.start("drop", GROUP, actor="mira", reason="x")
    drop_all(made[3:4], actor="omar", reason="first")
    letters(2)
    finish(dropping)
    assert (dropping.total, dropping.done, dropping.skips) == (5, 4, {"they were resolved before their turn": 1})
    purging = operations.start("purge", GROUP, actor="mira", reason="x")
    drop_all(DeadLetter.objects.open(), actor="omar", reason="later")
    finish(purging)
    assert (purging.done, DeadLetter.objects.count()) == (5, 2), "what was resolved later stays"


@pytest.mark.parametrize("verb", ["drop", "purge"])
def test_a_step_asks_the_same_number_of_questions_about_more_letters(verb: str) -> None:
    (letters if verb == "drop" else resolved)(500)
    operation = operations.start(verb, GROUP, actor="mira", reason="x")
    with CaptureQueriesContext(connection) as asked:
        step(operation)
    assert handled(operation) == operations.PER_STEP
    assert len(asked) <= 20, "\n".join(query["sql"][:150] for query in asked.captured_queries)


@pytest.mark.parametrize("verb", VERBS)
def test_many_letters_need_the_same_permission_as_one(person: Any, few: None, verb: str) -> None:
    letters(4)
    resolved(4, "b2")
    viewer = person("deadletters.view_deadletter")
    choose_all(viewer, verb, "", everything="1", reason="x", pace="1")
    assert not BulkOperation.objects.exists()
    assert not ReplayOperation.objects.exists()
    allowed = person("deadletters.view_deadletter", f"deadletters.{verb}_deadletter")
    choose_all(allowed, verb, "", everything="1", reason="x", pace="1")
    assert BulkOperation.objects.count() + ReplayOperation.objects.count() == 1
    if operation := BulkOperation.objects.first():
        abort = reverse("admin:jobs_operation_abort", args=[operation.pk])
        assert abort in allowed.get(page_of(operation)).content.decode()
        assert abort not in viewer.get(page_of(operation)).content.decode()
        assert viewer.post(abort).status_code == 403
        assert person("jobs.view_job").get(page_of(operation)).status_code != 200, "it is about letters"


def test_a_filter_an_operation_does_not_know_is_refused(boss: Client, few: None) -> None:
    letters(5)
    refused = choose_all(boss, "drop", "reason__contains=Read", everything="1", reason="x")
    assert messages_of(refused) == ["The filter 'reason__contains' cannot choose dead letters for a bulk operation."]
    assert not BulkOperation.objects.exists()


def test_a_filter_chooses_what_the_list_shows(boss: Client, few: None) -> None:
    made = letters(6)
    JobLabel.objects.bulk_create(JobLabel(job_id=letter.job_id, label="tag:vip") for letter in made[:4])
    choose_all(boss, "drop", "task=flaky&queue=default&resolution=OPEN&q=tag:vip", everything="1", reason="x")
    operation = finish(BulkOperation.objects.get())
    expected = {"task": "flaky", "queue": "default", "resolution": "OPEN", "label": "tag:vip"}
    assert (operation.filter, operation.done) == (expected, 4)
    assert set(DeadLetter.objects.open()) == set(made[4:])
    assert set(chosen({"identity": str(made[5].job_id)})) == {made[5]}
    assert set(chosen({"resolution": "DROPPED"})) == set(made[:4])
    assert not chosen({"task": "slow"}).exists()
