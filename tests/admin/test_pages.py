import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.apps import apps
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from api.models import ApiToken
from deadletters.models import DeadLetter, ReplayItem, ReplayOperation
from jobs.models import Batch, BulkOperation, Effect, Event, Job, JobLabel, Pace, Queue, Worker
from monitoring.models import CounterState, Report, Rollup, RollupProgress
from tests.admin.acting import list_of, page_of, text_of
from tests.deadletters.making import make_letter
from tests.making import make_job

OURS = [apps.get_app_config(name) for name in ("api", "jobs", "deadletters", "monitoring")]
MODELS = [model for app in OURS for model in app.get_models()]
NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


def make_one_of_each(boss: Client, number: int = 0) -> None:
    letter = make_letter("secret sauce", key=f"key-{number}", tags=["vip"])
    Event.objects.create(job_id=letter.job_id, verb="cancel requested", actor="mira", reason="x")
    Effect.objects.create(job_id=letter.job_id, name="charge", outcome={"id": 1})
    Queue.objects.get_or_create(name=f"queue-{number}")
    BulkOperation.objects.create(verb="cancel", filter={"queue": "low"}, reason="x", created_by="mira")
    operation = ReplayOperation.objects.create(reason="x", pace=1, created_by="mira")
    ReplayItem.objects.create(operation=operation, letter=letter)
    worker = Worker.objects.create(kind="worker", name=f"w{number}", host="here", pid=1)
    Batch.objects.create(worker_id=worker.pk, child_pid=1, queue="low", first_run_at=NOW, last_run_at=NOW)
    Pace.objects.create(task=f"task-{number}")
    Rollup.objects.create(minute=NOW, queue=f"queue-{number}", task="flaky")
    RollupProgress.objects.get_or_create(defaults={"frozen_until": NOW, "built_until": NOW})
    CounterState.objects.get_or_create(defaults={"until": NOW})
    Report.objects.create(kind="hourly", period_start=NOW + timedelta(hours=number), period_end=NOW)
    ApiToken.issue(name=f"token-{number}", owner_id=boss.session["_auth_user_id"], scopes=["read"])


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_list_and_every_page_opens(boss: Client, model: type[Job]) -> None:
    make_one_of_each(boss)
    assert boss.get(list_of(model)).status_code == 200
    assert boss.get(page_of(model._default_manager.first())).status_code == 200
    assert boss.get(f"{list_of(model)}?q=nothing").status_code == 200


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_nothing_is_added_changed_or_deleted_by_hand(boss: Client, model: type[Job]) -> None:
    make_one_of_each(boss)
    row = model._default_manager.first()
    adding = 200 if model is ApiToken else 403
    assert boss.get(f"{list_of(model)}add/").status_code == adding
    assert boss.post(page_of(row), {"_save": "1"}).status_code == 403
    assert boss.post(page_of(row).replace("/change/", "/delete/"), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_list_costs_the_same_number_of_queries_for_more_rows(boss: Client, model: type[Job]) -> None:
    make_one_of_each(boss)
    with CaptureQueriesContext(
        connection,
    ) as for_one:
        boss.get(list_of(model))
    for number in range(1, 8):
        make_one_of_each(boss, number)
    with CaptureQueriesContext(connection) as for_many:
        boss.get(list_of(model))
    assert len(for_many) <= len(for_one) <= 12, "\n".join(query["sql"] for query in for_many.captured_queries)


def test_every_model_of_these_apps_is_registered() -> None:
    assert set(MODELS) <= set(admin.site._registry)


def test_no_page_of_ours_has_inline_script_or_style(boss: Client) -> None:
    make_one_of_each(boss)
    for row in (Job.objects.get(), DeadLetter.objects.get(), ApiToken.objects.get()):
        for page in (list_of(row), page_of(row)):
            html = boss.get(page).content.decode()
            assert not re.search(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)[^>]*>", html)
            assert not re.search(r"<style|\sstyle=|\son[a-z]+=", html)


def test_the_page_of_a_job_tells_its_whole_story(boss: Client) -> None:
    make_one_of_each(boss)
    job = Job.objects.get()
    text = text_of(boss.get(page_of(job)))
    for told in ("always_fails", str(job.pk), "key-0", "1 / 1", "RuntimeError", "Traceback", "charge", "secret sauce"):
        assert told in text
    assert page_of(DeadLetter.objects.get()) in boss.get(page_of(job)).content.decode()


def test_redacted_fields_are_masked_without_the_permission_to_see_them(boss: Client, person, monkeypatch) -> None:
    from jobs import policies

    hiding = replace(policies.policy("always_fails"), redacted=("message",))
    monkeypatch.setitem(policies._load(policies.Path(policies.settings.POLICIES_FILE)), "always_fails", hiding)
    job = make_job("always_fails", {"message": "hunter2"})
    viewer = person("jobs.view_job")
    shown = viewer.get(page_of(job)).content.decode()
    assert "••••" in shown
    assert "hunter2" not in shown
    assert "hunter2" in boss.get(page_of(job)).content.decode()
    assert "hunter2" in person("jobs.view_job", "jobs.view_payload").get(page_of(job)).content.decode()


def found_by(client: Client, text: str) -> set[object]:
    return {job.pk for job in client.get(list_of(Job), {"q": text}).context["cl"].result_list}


def test_jobs_are_found_by_id_prefix_key_label_and_tag(boss: Client) -> None:
    job = make_job("always_fails", key="order-1", tags=["vip"])
    other = make_job("always_fails")
    JobLabel.objects.create(job=job, label="user_id:usr_1")
    assert found_by(boss, str(job.pk)) == {job.pk}
    assert found_by(boss, job.pk.hex) == {job.pk}
    assert found_by(boss, str(job.pk)[:9]) == {job.pk, other.pk}
    assert found_by(boss, "order-1") == {job.pk}
    assert found_by(boss, "payload.user_id:usr_1") == {job.pk}
    assert found_by(boss, "tag:vip") == {job.pk}
    assert found_by(boss, "ffffffff") == found_by(boss, "no such key") == set()


def test_a_search_of_a_field_that_is_not_searchable_says_so(boss: Client) -> None:
    response = boss.get(list_of(Job), {"q": "payload.colour:red"})
    assert "No policy makes payload.colour searchable" in text_of(response)


def test_letters_can_be_filtered_by_group(boss: Client) -> None:
    letter = make_letter("one"), make_letter("two")
    first = letter[0]
    page = boss.get(list_of(DeadLetter), {"fingerprint": first.fingerprint})
    groups = DeadLetter.objects.filter(fingerprint=first.fingerprint).count()
    assert len(page.context["cl"].result_list) == groups
    assert "RuntimeError: " in text_of(page)
    assert boss.get(list_of(DeadLetter), {"resolution": "OPEN"}).context["cl"].result_count == 2
    assert boss.get(list_of(DeadLetter), {"resolution": "DROPPED"}).context["cl"].result_count == 0


@pytest.mark.parametrize("query", ["state__exact=FAILURE", "queue=default", "task=always_fails", "p=1"])
def test_jobs_can_be_filtered(boss: Client, query: str) -> None:
    make_letter()
    make_job("flaky", queue="low")
    assert boss.get(f"{list_of(Job)}?{query}").status_code == 200
    if query != "p=1":
        assert boss.get(f"{list_of(Job)}?{query}").context["cl"].result_count == 1
