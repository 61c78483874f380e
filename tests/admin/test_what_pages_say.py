"""What single pages say and refuse: policies, letters, groups, counts, empty states."""

from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from api import readfirst
from deadletters.models import DeadLetter
from jobs import policies
from jobs.admin import listing
from jobs.models import Job
from tests.admin.acting import list_of, messages_of, page_of, part_of, text_of
from tests.browser.failed import make_failed
from tests.making import make_job

GROUPS = "/admin/deadletters/deadletter/groups/"
MAIL = {"to": "a@example.com", "subject": "Hi", "body": "hunter2"}


def test_the_policies_page_says_every_number_of_a_policy(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = policies.Policy(
        queue="low", max_retries=11, backoff=policies.Backoff(base=0.25, factor=1.75, cap=613, jitter=0.35),
        soft_limit=17.5, hard_limit=423, max_deaths=29, delivery="batch", atomic=True, rate="97/m", max_depth=4321,
        redacted=("iban",), searchable=("order", "user"),
    )  # fmt: skip
    assert len({field.name for field in fields(policies.Policy)}) == 12, "a new number belongs on the page, too"
    monkeypatch.setitem(policies._load(policies.settings.POLICIES_FILE), "flaky", odd)
    page = boss.get(reverse("admin:jobs_policies"))
    row = part_of(page, '<th scope="row">flaky', "</tr>")
    assert row.split(" low ")[1] == (
        "11 0.25 s × 1.75, at most 613 s, jitter 0.35 17.5 s soft, 423 s 29 batch, atomic 97/m 4321 iban order, user"
    )
    plain = replace(odd, max_depth=0, soft_limit=0)
    monkeypatch.setitem(policies._load(policies.settings.POLICIES_FILE), "flaky", plain)
    assert "jitter 0.35 423 s 29 batch, atomic 97/m iban" in part_of(
        boss.get(reverse("admin:jobs_policies")), '<th scope="row">flaky', "</tr>"
    )


def test_a_mask_that_was_written_over_is_what_is_saved(person: Any) -> None:
    [letter] = make_failed(1, "SMTPError: gone", "d4", task="send_email", payload=MAIL)
    editor = person("deadletters.view_deadletter", "deadletters.replay_deadletter", "deadletters.edit_payload")
    given = '{"to": "a@example.com", "subject": "••••", "body": "new words"}'
    shown = text_of(editor.get(page_of(letter)))
    assert "hunter2" not in shown
    editor.post(page_of(letter), {"payload": given.replace("••••", "Hi"), "reason": "wrong words", "replay": "1"})
    assert Job.objects.get(pk=letter.job_id).payload == MAIL | {"body": "new words"}
    letter.refresh_from_db()
    assert letter.payload_before == MAIL


@pytest.mark.parametrize("permission", ["deadletters.replay_deadletter", "deadletters.edit_payload"])
def test_an_edit_needs_both_the_right_to_edit_and_the_right_to_replay(person: Any, permission: str) -> None:
    [letter] = make_failed(1, "KeyError: 'x'", "b2")
    someone = person("deadletters.view_deadletter", permission)
    assert 'name="payload"' not in someone.get(page_of(letter)).content.decode()
    for how in ("preview", "replay"):
        edit = {"payload": '{"failures": 1}', "reason": "x", how: "1"}
        assert someone.post(page_of(letter), edit).status_code == 403
    assert Job.objects.get().payload == {"failures": 0}
    assert DeadLetter.objects.open().exists()


def test_letters_are_searched_under_the_rules_of_jobs(boss: Client, person: Any) -> None:
    [letter] = make_failed(1, "SMTPError: gone", "d4", task="send_email", payload=MAIL)
    viewer = person("deadletters.view_deadletter")
    assert viewer.get(list_of(DeadLetter), {"q": "payload.body:hunter2"}).status_code == 403
    [told] = messages_of(boss.get(list_of(DeadLetter), {"q": "payload.colour:red"}))
    assert told.startswith("No policy makes payload.colour searchable, so no letter is found by it. Found at once: ")
    by_id = viewer.get(list_of(DeadLetter), {"q": str(letter.job_id)})
    assert [row.pk for row in by_id.context["cl"].result_list] == [letter.pk]
    assert messages_of(by_id) == []


def test_a_group_says_when_it_began_when_it_last_came_and_how_often_by_the_hour(boss: Client) -> None:
    make_failed(5, "KeyError: 'x'", "b2")
    now = timezone.now()
    for letter, hours in zip(DeadLetter.objects.all(), (0, 0, 0, 3, 50), strict=True):
        DeadLetter.objects.filter(pk=letter.pk).update(created_at=now - timedelta(hours=hours))
    page = boss.get(GROUPS)
    row = part_of(page, '<td class="r big">', "</tr>")
    assert row.startswith("5 KeyError 'x' flaky in default 2 d ago")
    bars = page.content.decode().partition('<svg class="bars"')[2].partition("</svg>")[0].split("<rect")[1:]
    assert len(bars) == 24
    drawn = [index for index, bar in enumerate(bars) if "zero" not in bar]
    assert drawn == [20, 23]
    heights = [float(bars[index].partition('height="')[2].partition('"')[0]) for index in drawn]
    assert heights[1] == pytest.approx(3 * heights[0], rel=0.2)


def test_the_list_of_very_many_jobs_says_about_how_many(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (readfirst, listing):
        monkeypatch.setattr(module, "COUNTED_EXACTLY", 3)
    for _ in range(6):
        make_job()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE jobs_job")
    make_job()
    assert "About 6 jobs" in text_of(boss.get(list_of(Job)))


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("/admin/", "Start one: celery -A config worker -Q high,default,low"),
        ("/admin/jobs/job/", "Submit one with the button above, or from your code."),
        ("/admin/jobs/bulkoperation/", "Filter the list of jobs or of dead letters, choose all that match"),
        ("/admin/jobs/queue/", "start one with manage.py dispatcher."),
        ("/admin/deadletters/replayoperation/", "Open a group of dead letters, put its cause right, then replay it."),
        ("/admin/monitoring/report/", "or run its schedule now."),
        ("/admin/api/apitoken/", "Add one for each program that is to use the API"),
        ("/admin/jobs/job/?task=flaky", "Clear search and filters"),
        (f"{GROUPS}?task=flaky", "Clear filters"),
        (GROUPS, "Every job has succeeded, is waiting, or will be retried."),
    ],
)
def test_an_empty_page_says_what_to_do_next(boss: Client, at_work: Any, page: str, words: str) -> None:
    at_work.delete()
    assert words in text_of(boss.get(page))


def test_the_favicon_is_there(boss: Client) -> None:
    html = boss.get("/admin/").content.decode()
    address = html.partition('<link rel="icon" type="image/svg+xml" href="')[2].partition('"')[0]
    assert finders.find(address.removeprefix("/static/")), address
    icon = boss.get(address)
    assert (icon.status_code, icon.headers["Content-Type"]) == (200, "image/svg+xml")


def test_schedules_are_edited_only_by_who_may_change_them(person: Any) -> None:
    minute, _ = IntervalSchedule.objects.get_or_create(every=1, period="minutes")
    made = PeriodicTask.objects.create(name="x", task="flaky", interval=minute, last_run_at=timezone.now())
    edit = {"name": "y", "regtask": "flaky", "task": "flaky", "interval": minute.pk, "enabled": "on", "args": "[]",
            "kwargs": "{}", "headers": "{}"}  # fmt: skip
    viewer = person("django_celery_beat.view_periodictask", "jobs.submit_job")
    assert viewer.post(page_of(made), edit).status_code == 403
    made.refresh_from_db()
    assert made.name == "x"
    both = ("django_celery_beat.view_periodictask", "django_celery_beat.change_periodictask")
    assert person(*both).post(page_of(made), edit).status_code == 302
    made.refresh_from_db()
    assert made.name == "y"
