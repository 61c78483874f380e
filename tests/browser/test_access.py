"""What every page owes to everybody: readable by all, obedient to its policy, and no button that would refuse."""

from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib import admin
from django.urls import reverse
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from deadletters.models import DeadLetter, ReplayOperation
from jobs import operations
from jobs.models import BulkOperation, Job, Worker
from jobs.submission import submit
from monitoring.models import Report
from tests.browser.failed import make_failed
from tests.browser.person import Person

Come = Callable[..., Person]
AXE = Path(__file__).with_name("axe") / "axe.min.js"
# Colours fade when the scheme changes on an open page; they are looked at once they have arrived.
ASK_AXE = """
const done = arguments[0];
const frame = () => new Promise(requestAnimationFrame);
const faded = () => Promise.all(document.getAnimations()
  .filter((each) => each instanceof CSSTransition).map((each) => each.finished.catch(() => null)));
const rules = {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]};
frame().then(frame).then(faded).then(() => axe.run(document, rules)).then(
  (found) => done(found.violations.map((each) => each.id + ": " + each.nodes.slice(0, 3).map((node) => node.html))),
  (error) => done([String(error)]));
"""


def own_pages() -> list[str]:
    """One page of every kind, over rows that fill it."""
    if not DeadLetter.objects.filter(fingerprint="a-page").exists():
        make_failed(3, "ValueError: no such customer", "a-page", payload={"failures": 1})
        waiting = submit("slow", {"seconds": 1}, delay=3600, tags=["vip"])
        about = {"filter": {"fingerprint": "none"}, "reason": "look", "pace": 1, "created_by": "mira"}
        ReplayOperation.objects.create(**about, state="DONE", finished_at=waiting.created_at)
        minute, _ = IntervalSchedule.objects.get_or_create(every=1, period="minutes")
        PeriodicTask.objects.get_or_create(name="a schedule", task="flaky", interval=minute)
        period = {"period_start": waiting.created_at, "period_end": waiting.created_at}
        Report.objects.create(kind="failures", **period, data=A_REPORT)
        skips = {"skips": {"it is due already": 2}, "total": 5, "done": 3, "skipped": 2}
        for verb, chosen in (("retry_now", {"tag": "nobody"}), ("drop", {"fingerprint": "none"})):
            operations.start(verb, chosen, actor="mira", reason="look")
        BulkOperation.objects.update(**skips)
    letter = DeadLetter.objects.filter(fingerprint="a-page")[0]
    job = letter.job
    queue = reverse("admin:jobs_queue_act", args=["high", "pause"])
    groups = "/admin/deadletters/deadletter/groups/"
    return [
        "/admin/", "/admin/jobs/job/", "/admin/jobs/job/?q=nothing", change(job),
        change(Job.objects.exclude(tags=[])[0]),
        "/admin/jobs/job/submit/", "/admin/jobs/job/submit/send_email/", "/admin/jobs/job/policies/",
        groups, f"{groups}a-page/", f"{groups}a-page/drop/", f"{groups}?queue=low", change(letter),
        "/admin/deadletters/deadletter/", "/admin/deadletters/replayoperation/",
        change(ReplayOperation.objects.order_by("pk")[0]), "/admin/jobs/bulkoperation/",
        *(change(operation) for operation in BulkOperation.objects.order_by("pk")[:2]),
        "/admin/jobs/queue/", queue, "/admin/jobs/worker/",
        change(Worker.objects.order_by("pk")[0]), "/admin/jobs/event/", "/admin/monitoring/report/",
        reverse("report", args=[Report.objects.order_by("pk")[0].pk]), "/admin/api/apitoken/",
        "/admin/api/apitoken/add/",
        "/admin/django_celery_beat/periodictask/", change(PeriodicTask.objects.order_by("pk")[0]),
    ]  # fmt: skip


A_REPORT = {
    "title": "Failures", "subtitle": "for everybody", "bars": [{"label": "11-20", "succeeded": 5, "failed": 2}],
    "tables": [{"caption": "By cause", "columns": ["Cause", "Letters"], "rows": [["Out of retries", 2]]}],
}  # fmt: skip


def change(row: object) -> str:
    meta = row._meta  # type: ignore[attr-defined]
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[row.pk])  # type: ignore[attr-defined]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_own_page_shuts_anybody_out(person: Come, scheme: str) -> None:
    mira = person().prefers(scheme)
    axe = AXE.read_text()
    found: dict[str, list[str]] = {}
    for page in own_pages():
        mira.open(page).run(axe)
        found[page] = mira.driver.execute_async_script(ASK_AXE)
    mira.driver.delete_all_cookies()
    mira.open("/admin/login/").run(axe)
    found["login"] = mira.driver.execute_async_script(ASK_AXE)
    assert {page: wrong for page, wrong in found.items() if wrong} == {}


def test_the_page_that_asks_about_very_many_letters_shuts_nobody_out(person: Come) -> None:
    make_failed(1001, "KeyError: 'vat_rate'", "a-crowd")
    mira = person("operator").open("/admin/deadletters/deadletter/?resolution=OPEN&fingerprint=a-crowd")
    mira.click("#action-toggle").press("Select all that match").press("Replay…").sees("Replay 1,001 dead letters?")
    for scheme in ("light", "dark"):
        mira.prefers(scheme).run(AXE.read_text())
        assert mira.driver.execute_async_script(ASK_AXE) == []
    mira.complaints()
    mira.write("#id_reason", "the rate is back").write("#id_pace", "1000").press("Replay 1,001 dead letters")
    mira.sees("of 1,001 sent", css="#replay")
    mira.sees("Done", css="#replay-state")
    assert mira.complaints() == []
    crowd = Job.objects.filter(letters__fingerprint="a-crowd")
    mira.waits(lambda: crowd.filter(state="SUCCESS").count() == 1001, "every job of the crowd to run again")


def test_no_admin_page_breaks_its_content_policy_or_asks_another_host(person: Come) -> None:
    mira = person()
    pages = own_pages()
    for model in admin.site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        pages.append(reverse(f"{name}_changelist"))
        pages += [reverse(f"{name}_change", args=[row.pk]) for row in model._default_manager.order_by("pk")[:1]]
    pages += ["/admin/auth/user/add/", "/admin/django_celery_beat/periodictask/add/", "/admin/password_change/"]
    mira.complaints()
    mira.asked_hosts()
    wrong = {}
    for page in dict.fromkeys(pages):
        mira.open(page)
        if complaints := mira.complaints():
            wrong[page] = complaints
    assert wrong == {}
    assert mira.asked_hosts() == {mira.address.removeprefix("http://")}


def test_each_role_sees_only_buttons_that_would_work(person: Come) -> None:
    job = submit("slow", {"seconds": 1}, delay=3600)
    make_failed(2, "TypeError: not a number", "a-role")
    group = "/admin/deadletters/deadletter/groups/a-role/"
    assert buttons(person("viewer"), change(job), group) == set()
    assert buttons(person("operator"), change(job), group) == {"Cancel…", "Retry now…", "Replay 2 jobs", "Preview"}
    assert buttons(person("manager"), change(job), group) == {
        "Cancel…", "Retry now…", "Replay 2 jobs", "Preview", "Drop group…"
    }  # fmt: skip
    viewer = person("viewer")
    for page in ("/admin/jobs/job/submit/", f"{group}drop/", f"{change(job).removesuffix('change/')}act/cancel/"):
        viewer.open(page).sees("403")
    assert (
        not Job.objects.exclude(pk=job.pk).filter(state="REVOKED", task="slow", created_at__gte=job.created_at).exists()
    )


def test_a_viewer_reads_masks_where_a_manager_reads_the_payload(person: Come) -> None:
    job = submit("send_email", {"to": "a@example.com", "subject": "Hi", "body": "the secret"}, delay=3600)
    person("viewer").open(change(job)).sees("••••", css="#payload")
    person("manager").open(change(job)).sees("the secret", css="#payload")


def buttons(someone: Person, *pages: str) -> set[str]:
    found = set()
    for page in pages:
        someone.open(page)
        found |= {each.text for each in someone.all("main .button") if each.is_displayed()}
    return found
