from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.contrib import admin
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client, RequestFactory
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from api import confirmation
from api.models import ApiToken
from deadletters.drop import drop
from deadletters.models import DeadLetter
from jobs.cancellation import cancel
from jobs.models import Event, Job, Queue
from jobs.pausing import pause
from jobs.submission import KEY_TAKEN_OVER
from tests.admin.acting import answer, choose, list_of, messages_of, text_of
from tests.deadletters.making import make_letter
from tests.making import make_job, make_worker

SCHEDULES = ("django_celery_beat.change_periodictask", "django_celery_beat.view_periodictask")
Person = Callable[..., Client]


def state_of(job: Job) -> str:
    return Job.objects.get(pk=job.pk).state


def test_the_confirmation_counts_what_will_change_and_what_will_not(boss: Client) -> None:
    waiting = [make_job() for _ in range(7)]
    revoked = make_job()
    cancel(revoked.pk, actor="x")
    page = choose(boss, "cancel", [*waiting, revoked])
    text = text_of(page)
    assert "Cancel 7 jobs?" in text
    assert "Left alone: it is revoked already 1" in text
    assert "and 2 more" in text
    assert sum(str(job.pk) in text for job in waiting) == 5
    assert "Leave them as they are" in text
    assert Job.objects.filter(state="PENDING").count() == 7, "nothing happens before the answer"


def test_confirmed_jobs_are_cancelled_and_each_is_logged(boss: Client) -> None:
    jobs = [make_job() for _ in range(3)]
    revoked = make_job()
    cancel(revoked.pk, actor="x")
    after = answer(boss, "cancel", [*jobs, revoked], "wrong batch")
    assert messages_of(after)[0] == "Cancelled: 3 jobs."
    assert f"Job {revoked.pk} is REVOKED already" in messages_of(after)[1]
    assert {state_of(job) for job in jobs} == {"REVOKED"}
    entries = LogEntry.objects.all()
    assert {entry.object_id for entry in entries} == {str(job.pk) for job in jobs}
    assert {entry.change_message for entry in entries} == {"Cancelled: wrong batch"}
    event = Event.objects.get(job=jobs[0])
    assert (event.actor, event.reason) == ("boss", "wrong batch")


def test_a_required_reason_is_asked_for_again(boss: Client) -> None:
    job = make_job()
    again = answer(boss, "cancel", [job], "  ")
    assert "This field is required" in text_of(again)
    assert state_of(job) == "PENDING"


def test_when_nothing_would_change_there_is_nothing_to_confirm(boss: Client) -> None:
    job = make_job()
    cancel(job.pk, actor="x")
    page = choose(boss, "cancel", [job])
    assert "Cancel 0 jobs?" in text_of(page)
    assert b'type="submit" class="deletelink"' not in page.content


def test_what_changed_between_question_and_answer_is_told(boss: Client) -> None:
    job = make_job()
    choose(boss, "cancel", [job], **{"state__exact": "PENDING"})
    cancel(job.pk, actor="omar")
    after = answer(boss, "cancel", [job])
    [told] = messages_of(after)
    assert told.startswith("Left alone: 1 job.")
    assert not LogEntry.objects.exists()


def test_retry_now_makes_waiting_jobs_due(boss: Client) -> None:
    later, due = make_job(delay=3600), make_job()
    assert "Left alone: it is due already 1" in text_of(choose(boss, "retry_now", [later, due]))
    answer(boss, "retry_now", [later, due], reason="")
    later.refresh_from_db()
    assert later.run_at <= Event.objects.get(job=later).at


def test_reinstate_runs_revoked_jobs_but_not_without_their_key(boss: Client) -> None:
    revoked, taken, waiting = make_job(), make_job(), make_job()
    for job in (revoked, taken):
        cancel(job.pk, actor="x")
    Event.objects.create(job=taken, verb=KEY_TAKEN_OVER)
    text = text_of(choose(boss, "reinstate", [revoked, taken, waiting]))
    assert "Reinstate 1 job?" in text
    assert "its idempotency key belongs to a later job 1" in text
    assert "it is pending 1" in text
    answer(boss, "reinstate", [revoked, taken, waiting])
    assert (state_of(revoked), state_of(taken)) == ("PENDING", "REVOKED")


def test_letters_are_replayed_dropped_and_purged(boss: Client) -> None:
    replayed, dropped, left = make_letter("a"), make_letter("b"), make_letter("c")
    answer(boss, "replay", [replayed], "gateway is back")
    answer(boss, "drop", [dropped], "customer gone")
    for letter in (replayed, dropped, left):
        letter.refresh_from_db()
    assert (replayed.resolution, replayed.resolved_by, state_of(replayed.job)) == ("REPLAYED", "boss", "PENDING")
    assert (dropped.resolution, dropped.resolved_reason) == ("DROPPED", "customer gone")
    text = text_of(choose(boss, "purge", [replayed, dropped, left]))
    assert "Purge 2 dead letters?" in text
    assert "Left alone: it is open: replay or drop it first 1" in text
    answer(boss, "purge", [replayed, dropped, left])
    assert DeadLetter.objects.get() == left
    assert set(Job.objects.values_list("pk", flat=True)) == {replayed.job_id, left.job_id}
    assert LogEntry.objects.filter(action_flag=DELETION).count() == 2


def test_queues_are_paused_with_a_reason_and_resumed(boss: Client) -> None:
    queue = Queue.objects.create(name="low")
    answer(boss, "pause", [queue], "partner maintenance")
    queue.refresh_from_db()
    assert (queue.is_paused, queue.paused_by, queue.pause_reason) == (True, "boss", "partner maintenance")
    assert "Paused by boss: partner maintenance" in text_of(boss.get(list_of(Queue)))
    answer(boss, "resume", [queue], "")
    queue.refresh_from_db()
    assert not queue.is_paused


def make_schedule(**fields: Any) -> PeriodicTask:
    minute, _ = IntervalSchedule.objects.get_or_create(every=1, period="minutes")
    return PeriodicTask.objects.create(name="each minute", task="flaky", interval=minute, **fields)


def make_revoked() -> Job:
    job = make_job()
    cancel(job.pk, actor="x")
    return job


def make_dropped() -> DeadLetter:
    letter = make_letter()
    drop(letter, actor="x", reason="x")
    return letter


def make_paused() -> Queue:
    pause("low", actor="x", reason="x")
    return Queue.objects.get()


def make_token() -> ApiToken:
    owner = User.objects.create_user("owner")
    return ApiToken.issue(name="shop", owner_id=owner.pk, scopes=["read"])[0]


ACTS = [
    ("cancel", "jobs.cancel_job", "jobs.view_job", make_job),
    ("retry_now", "jobs.retry_job", "jobs.view_job", lambda: make_job(delay=3600)),
    ("reinstate", "jobs.retry_job", "jobs.view_job", make_revoked),
    ("replay", "deadletters.replay_deadletter", "deadletters.view_deadletter", make_letter),
    ("drop", "deadletters.drop_deadletter", "deadletters.view_deadletter", make_letter),
    ("purge", "deadletters.purge_deadletter", "deadletters.view_deadletter", make_dropped),
    ("pause", "jobs.pause_queue", "jobs.view_queue", lambda: Queue.objects.create(name="low")),
    ("resume", "jobs.pause_queue", "jobs.view_queue", make_paused),
    ("stop", "jobs.control_worker", "jobs.view_worker", lambda: make_worker(id=uuid4())),
    ("enable", *SCHEDULES, lambda: make_schedule(enabled=False)),
    ("disable", *SCHEDULES, make_schedule),
    ("revoke", "api.change_apitoken", "api.view_apitoken", make_token),
]


@pytest.mark.parametrize(("verb", "permission", "view", "make"), ACTS, ids=[act[0] for act in ACTS])
def test_an_act_is_neither_seen_nor_done_without_its_permission(
    person: Person, verb: str, permission: str, view: str, make: Callable[[], Any]
) -> None:
    row = make()
    viewer, operator = person(view), person(view, permission)
    option = f'<input type="hidden" name="action" value="{verb}">'
    assert option not in viewer.get(list_of(row)).content.decode()
    assert option in operator.get(list_of(row)).content.decode()
    events = Event.objects.count()
    answer(viewer, verb, [row])
    assert Event.objects.count() == events
    assert not LogEntry.objects.exists()
    assert choose(operator, verb, [row]).templates[0].name == "admin/confirm_action.html"
    assert not LogEntry.objects.exists(), "nothing happens before the answer"
    answer(operator, verb, [row])
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.user_id) == (str(row.pk), int(operator.session["_auth_user_id"]))
    assert entry.change_message.endswith(": because")


def test_an_admin_offers_no_act_but_verbs_and_none_to_who_only_looks() -> None:
    viewer, boss = User.objects.create_user("viewer", is_staff=True), User.objects.create_superuser("boss")
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    request = RequestFactory().get("/")
    for page in admin.site._registry.values():
        request.user = viewer
        assert page.get_actions(request) == {}, page
        request.user = boss
        verbs = {verb.name for verb in getattr(page, "verbs", ())}
        assert set(page.get_actions(request)) <= verbs | {"delete_selected"}, page


def test_a_stranger_sees_nothing(person: Person) -> None:
    assert person().get(list_of(Job)).status_code == 403


def test_bulk_stops_at_its_cap(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirmation, "MOST_AT_ONCE", 3)
    jobs = [make_job() for _ in range(4)]
    after = choose(boss, "cancel", jobs)
    assert messages_of(after) == ["At most 3 at once: narrow the list first."]
    assert messages_of(answer(boss, "cancel", jobs)) == ["At most 3 at once: narrow the list first."]
    assert {state_of(job) for job in jobs} == {"PENDING"}


def test_everything_that_matches_a_filter_can_be_chosen_at_once(boss: Client) -> None:
    jobs = [make_job() for _ in range(60)]
    page = choose(boss, "cancel", jobs[:1], select_across="1")
    assert "Cancel 60 jobs?" in text_of(page)


def test_ids_nobody_was_shown_are_a_bad_request(boss: Client) -> None:
    job = make_job()
    asked = {"action": "cancel", "_selected_action": str(job.pk), "ids": "1;drop table", "reason": "x"}
    assert boss.post(list_of(job), asked).status_code == 400


def test_a_dropped_letter_is_not_offered_for_replay(boss: Client) -> None:
    letter = make_letter()
    drop(letter, actor="mira", reason="x")
    assert "Left alone: was dropped already 1" in text_of(choose(boss, "replay", [letter]))
