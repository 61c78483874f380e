"""The panel's own pages, as the server answers them."""

import importlib
import time
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.urls import reverse

from deadletters.models import DeadLetter, ReplayOperation
from jobs.models import Event, Job
from monitoring import charts, lookout, rollups
from tests.admin.acting import list_of, page_of, text_of
from tests.admin.conftest import BY_PASSWORD
from tests.admin.crowds import crowd_of_failed
from tests.browser.failed import make_failed
from tests.making import make_job

GROUPS = "/admin/deadletters/deadletter/groups/"
KINDS = [("ReadTimeout: no answer", "a1"), ("KeyError: 'vat_rate'", "b2"), ("CardDeclined: no funds", "c3")]


@pytest.fixture
def roles() -> Any:
    """Browsers of a viewer, an operator and a manager."""
    importlib.import_module("monitoring.migrations.0006_roles").create(apps, None)

    def log_in(role: str) -> Client:
        user = User.objects.create_user(role, is_staff=True)
        user.groups.add(Group.objects.get(name=role))
        client = Client()
        client.force_login(user, backend=BY_PASSWORD)
        return client

    return log_in


def seconds_of(client: Client, address: str) -> float:
    """The second look, when templates are compiled."""
    client.get(address)
    began = time.perf_counter()
    assert client.get(address).status_code == 200
    return time.perf_counter() - began


def test_ten_thousand_letters_of_three_kinds_are_three_groups_at_once(boss: Client) -> None:
    for count, kind in zip((4000, 3400, 2600), KINDS, strict=True):
        crowd_of_failed(count, *kind)
    took = seconds_of(boss, GROUPS)
    text = text_of(boss.get(GROUPS))
    assert "3 groups" in text
    assert all(each in text for each in ("4,000", "3,400", "2,600", "ReadTimeout", "KeyError", "CardDeclined"))
    assert took < 0.3


def test_a_group_is_previewed_then_replayed_with_a_patch(boss: Client) -> None:
    make_failed(3, *KINDS[0])
    page = f"{GROUPS}a1/"
    wrong = boss.post(page, {"reason": "x", "pace": "10", "patch": '{"failures": "many"}', "preview": "1"})
    assert "Of the first 3, 3 would be left alone" in text_of(wrong)
    good = boss.post(page, {"reason": "x", "pace": "10", "patch": '{"failures": 1}', "preview": "1"})
    assert "The first 3 would all be taken." in text_of(good)
    assert not ReplayOperation.objects.exists()
    boss.post(page, {"reason": "fixed", "pace": "10", "patch": '{"failures": 1}', "replay": "1"})
    operation = ReplayOperation.objects.get()
    assert (operation.filter, operation.reason, operation.pace) == ({"fingerprint": "a1"}, "fixed", 10)
    assert (operation.patch, operation.total, operation.created_by) == ({"failures": 1}, 3, "boss")
    told = text_of(boss.get(page_of(operation)))
    for word in ("fixed", "fingerprint = a1", "3 chosen", "replay started by boss"):
        assert word in told


def test_who_may_not_edit_may_not_patch(person: Any) -> None:
    make_failed(1, *KINDS[0])
    someone = person("deadletters.view_deadletter", "deadletters.replay_deadletter")
    order = {"reason": "x", "pace": "1", "patch": '{"failures": 1}', "replay": "1"}
    assert someone.post(f"{GROUPS}a1/", order).status_code == 403
    assert not ReplayOperation.objects.exists()


def test_a_group_is_dropped_in_one_transaction_and_audited(boss: Client) -> None:
    make_failed(30, *KINDS[0])
    assert "This field is required" in text_of(boss.post(f"{GROUPS}a1/drop/", {"reason": ""}))
    boss.post(f"{GROUPS}a1/drop/", {"reason": "told them"})
    assert DeadLetter.objects.filter(resolution="DROPPED", resolved_reason="told them").count() == 30
    assert Event.objects.filter(verb="dropped", actor="boss", reason="told them").count() == 30
    assert Job.objects.filter(state="FAILURE").count() == 30


def test_an_edited_payload_keeps_what_was_shown_as_a_mask(roles: Any) -> None:
    payload = {"to": "a@example.com", "subject": "Hi", "body": "the secret"}
    [letter] = make_failed(1, "SMTPError: gone", "d4", task="send_email", payload=payload)
    operator = roles("operator")
    shown = operator.get(page_of(letter)).content.decode()
    assert "the secret" not in shown
    edited = '{"to": "b@example.com", "subject": "Hi", "body": "••••"}'
    looked = operator.post(page_of(letter), {"payload": edited, "reason": "new address", "preview": "1"})
    assert "the secret" not in looked.content.decode()
    assert '+ "to": "b@example.com"' in text_of(looked)
    operator.post(page_of(letter), {"payload": edited, "reason": "new address", "replay": "1"})
    assert Job.objects.get(pk=letter.job_id).payload == payload | {"to": "b@example.com"}
    letter.refresh_from_db()
    assert (letter.resolution, letter.payload_before) == ("REPLAYED", payload)


@pytest.mark.parametrize(
    ("role", "verbs"),
    [("viewer", set()), ("operator", {"cancel", "retry_now"}), ("manager", {"cancel", "retry_now"})],
)
def test_the_page_of_a_job_offers_what_the_role_may_do_now(roles: Any, role: str, verbs: set[str]) -> None:
    job = make_job("slow", {"seconds": 1}, delay=3600)
    client = roles(role)
    offered = {verb.name for verb, _ in client.get(page_of(job)).context["buttons"]}
    assert offered == verbs
    for name in ("cancel", "retry_now", "reinstate"):
        answer = client.get(reverse("admin:jobs_job_act", args=[job.pk, name]))
        assert answer.status_code == (403 if role == "viewer" else 200)


def test_a_confirmed_act_leads_back_to_where_it_was_asked_for_but_never_elsewhere(boss: Client) -> None:
    job = make_job("slow", {"seconds": 1}, delay=3600)
    act = reverse("admin:jobs_job_act", args=[job.pk, "retry_now"])
    assert boss.post(f"{act}?next=https://evil.example/", {"reason": ""}).headers["Location"] == page_of(job)
    cancel = reverse("admin:jobs_job_act", args=[job.pk, "cancel"])
    assert boss.post(f"{cancel}?next=/admin/", {"reason": "no"}).headers["Location"] == "/admin/"
    assert Job.objects.get(pk=job.pk).state == "REVOKED"


def test_jobs_are_listed_in_pages_that_neither_repeat_nor_leave_out(boss: Client) -> None:
    made = {make_job("flaky").pk for _ in range(70)}
    first = boss.get(list_of(Job)).context["cl"]
    second = boss.get(list_of(Job) + first.next_page).context["cl"]
    pages = [{job.pk for job in page.result_list} for page in (first, second)]
    assert [len(page) for page in pages] == [50, 20]
    assert pages[0] | pages[1] == made
    assert boss.get(f"{list_of(Job)}?after=nonsense", follow=True).status_code == 200


def test_a_search_by_a_redacted_field_needs_the_right_to_see_it(person: Any) -> None:
    make_job("send_email", {"to": "a@example.com", "subject": "Hi", "body": "hunter2"})
    search = f"{list_of(Job)}?q=payload.body:hunter2"
    assert person("jobs.view_job").get(search).status_code == 403
    allowed = person("jobs.view_job", "jobs.view_payload").get(search)
    assert len(allowed.context["cl"].result_list) == 1
    export = reverse("admin:jobs_export")
    assert person("jobs.view_job").get(f"{export}?q=payload.body:hunter2").status_code == 403


def test_the_csv_holds_what_the_list_shows_and_no_payload(boss: Client) -> None:
    job = make_job("send_email", {"to": "a@example.com", "subject": "Hi", "body": "hunter2"}, queue="low")
    make_job("flaky")
    answer = boss.get(f"{reverse('admin:jobs_export')}?queue=low")
    lines = b"".join(answer.streaming_content).decode().splitlines()
    assert lines[0].startswith("id,task,queue,state")
    assert [line.split(",")[0] for line in lines[1:]] == [str(job.pk)]
    assert "hunter2" not in "".join(lines)


def test_charts_are_drawn_from_rollups(boss: Client) -> None:
    make_failed(3, *KINDS[0])
    long_ago = "UPDATE {} SET created_at = created_at - interval '5 minutes'"
    with connection.cursor() as cursor:
        for table in ("jobs_job", "deadletters_deadletter"):
            cursor.execute(long_ago.format(table))
    rollups.build()
    charts._answers.clear()
    drawn = boss.get("/admin/charts.json?range=1h").json()
    assert sum(drawn["dead_lettered"]) == 3
    assert len(drawn["at"]) == len(drawn["succeeded"]) == 61
    assert {"high", "default", "low"} == set(drawn["wait_p95"])


def test_the_submit_form_names_the_field_that_is_wrong(boss: Client) -> None:
    page = reverse("admin:jobs_submit_task", args=["process_payment"])
    given = {"payload-user_id": "7", "payload-amount": "1.5", "payload-currency": "euro"}
    refused = boss.post(page, given)
    assert "currency" in refused.context["payload"].errors
    assert not Job.objects.exists()
    boss.post(page, given | {"payload-currency": "EUR", "job-key": "order-1", "job-tags": "vip, new"})
    job = Job.objects.get()
    assert (job.payload["user_id"], job.key.key, job.tags) == (7, "order-1", ["new", "vip"])


def test_a_schedule_runs_now_and_says_when_next(boss: Client) -> None:
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    minute, _ = IntervalSchedule.objects.get_or_create(every=1, period="minutes")
    schedule = PeriodicTask.objects.create(name="every minute", task="flaky", interval=minute)
    assert "in " in text_of(boss.get(list_of(PeriodicTask)))
    assert len(boss.get(page_of(schedule)).context["timetable"].upcoming) == 5
    run = reverse("admin:jobs_run_schedule", args=[schedule.pk])
    assert boss.get(run).status_code == 405
    boss.post(run)
    job = Job.objects.get()
    assert (job.task, job.schedule) == ("flaky", "every minute")
    assert Event.objects.filter(job=job, verb="run now", actor="boss").exists()


def test_the_overview_names_what_fires_and_who_is_missing(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout.lookout, "_looked", float("-inf"))
    said = text_of(boss.get("/admin/"))
    assert "NoWorkerOnQueue no worker serves high" in said
    assert "none leads" in said


def test_the_roles_grow_from_looking_to_deciding(roles: Any) -> None:
    roles("viewer")
    granted = {
        name: {
            f"{each.content_type.app_label}.{each.codename}" for each in Group.objects.get(name=name).permissions.all()
        }
        for name in ("viewer", "operator", "manager")
    }
    assert granted["viewer"] < granted["operator"] < granted["manager"]
    assert not [each for each in granted["viewer"] if ".view_" not in each]
    assert "jobs.view_payload" not in granted["operator"]
    assert not granted["operator"] & {"deadletters.drop_deadletter", "deadletters.purge_deadletter", "api.add_apitoken"}
