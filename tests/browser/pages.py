"""Every page of the panel, over rows that fill it, and what only clicks lead to."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import uuid4

from django.contrib import admin
from django.contrib.auth.models import User
from django.test import RequestFactory
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from django_celery_results.models import GroupResult, TaskResult

from api.models import ApiToken
from deadletters.models import DeadLetter, ReplayItem, ReplayOperation
from jobs import operations
from jobs.cancellation import cancel
from jobs.models import Attempt, Batch, BulkOperation, Effect, Job, Pace, Worker
from jobs.submission import submit
from monitoring.models import CounterState, Report, Rollup, RollupProgress
from tests.browser.failed import make_failed
from tests.browser.person import Person

GROUPS = "/admin/deadletters/deadletter/groups/"
LOOK = {"reason": "look", "pace": 1, "created_by": "mira"}
A_REPORT = {
    "title": "Failures", "subtitle": "for everybody", "bars": [{"label": "11-20", "succeeded": 5, "failed": 2}],
    "tables": [{"caption": "By cause", "columns": ["Cause", "Letters"], "rows": [["Out of retries", 2]]}],
}  # fmt: skip


def change(row: object) -> str:
    meta = row._meta  # type: ignore[attr-defined]
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[row.pk])  # type: ignore[attr-defined]


def own_pages() -> list[str]:
    """One page of every kind."""
    make_rows()
    letter = DeadLetter.objects.filter(fingerprint="a-page")[0]
    worker = Worker.objects.get(kind="worker", state="UP")
    return [
        "/admin/", "/admin/jobs/job/", "/admin/jobs/job/?q=nothing", change(letter.job),
        change(Job.objects.exclude(tags=[])[0]),
        "/admin/jobs/job/submit/", "/admin/jobs/job/submit/send_email/", "/admin/jobs/job/policies/",
        GROUPS, f"{GROUPS}a-page/", f"{GROUPS}a-pause/", f"{GROUPS}a-page/drop/", f"{GROUPS}?queue=low", change(letter),
        "/admin/deadletters/deadletter/", "/admin/deadletters/replayoperation/",
        *(change(operation) for operation in ReplayOperation.objects.filter(reason="look")),
        "/admin/jobs/bulkoperation/", *(change(operation) for operation in BulkOperation.objects.order_by("pk")[:2]),
        "/admin/jobs/queue/", reverse("admin:jobs_queue_act", args=["high", "pause"]),
        "/admin/jobs/worker/", change(worker),
        *(reverse("admin:jobs_worker_act", args=[worker.pk, verb]) for verb in ("stop", "grow")),
        "/admin/jobs/event/", "/admin/monitoring/report/", reverse("report", args=[Report.objects.all()[0].pk]),
        "/admin/api/apitoken/", "/admin/api/apitoken/add/",
        "/admin/django_celery_beat/periodictask/", change(PeriodicTask.objects.order_by("pk")[0]),
    ]  # fmt: skip


def every_page() -> list[str]:
    """All that Django's admin makes of each model, as far as anybody at all may open it."""
    make_rows()
    request = RequestFactory().get("/")
    request.user = User.objects.get(username="mira")
    found = []
    for model, page in admin.site._registry.items():
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        row = model._default_manager.order_by("pk").first()
        assert row, f"make_rows() makes no {model._meta.verbose_name}"
        found += [reverse(f"{name}_changelist"), *(reverse(f"{name}_{kind}", args=[row.pk]) for kind in SEEN)]
        found += [reverse(f"{name}_add")] if page.has_add_permission(request) else []
        found += [reverse(f"{name}_delete", args=[row.pk])] if page.has_delete_permission(request, row) else []
    return [*found, "/admin/password_change/", f"/admin/auth/user/{request.user.pk}/password/"]


SEEN = ("change", "history")


def make_rows() -> None:
    """A row of every model, and letters, replays and operations in more than one state; once."""
    if DeadLetter.objects.filter(fingerprint="a-page").exists():
        return
    make_failed(3, "ValueError: no such customer", "a-page", payload={"failures": 1})
    make_attempts(DeadLetter.objects.filter(fingerprint="a-page")[0].job)
    waiting = submit("slow", {"seconds": 1}, delay=3600, tags=["vip"], key="a-page")
    make_replays()
    period = {"period_start": waiting.created_at, "period_end": waiting.created_at}
    Report.objects.create(kind="failures", **period, data=A_REPORT)
    make_numbers(waiting.created_at)
    skips = {"skips": {"it is due already": 2}, "total": 5, "done": 3, "skipped": 2}
    for verb, chosen in (("retry_now", {"tag": "nobody"}), ("drop", {"fingerprint": "none"})):
        operations.start(verb, chosen, actor="mira", reason="look")
    BulkOperation.objects.update(**skips)
    ApiToken.issue(name="reports", owner=User.objects.get(username="mira"), scopes=["read"])
    TaskResult.objects.create(task_id="a-page")
    GroupResult.objects.create(group_id="a-page")
    make_schedules()


def make_attempts(job: Job) -> None:
    """Two that failed differently, so that the page of the job has something to compare."""
    now = timezone.now()
    for number, error in ((1, "TimeoutError: no answer"), (2, "ConnectionError: refused")):
        due, ended = (now - timedelta(minutes=10 - 3 * number - passed) for passed in (0, 2))
        said = {"error_code": error.partition(":")[0], "error": error, "traceback": f"Traceback:\n{error}"}
        times = {"due_at": due, "started_at": due + timedelta(minutes=1), "ended_at": ended}
        Attempt.objects.create(job=job, number=number, outcome="RETRY", worker_name="w@test", **times, **said)
    Effect.objects.create(job=job, name="mail", outcome={"sent": True})


def make_replays() -> None:
    """One that is done and one that is paused half-way."""
    ReplayOperation.objects.create(filter={"fingerprint": "none"}, state="DONE", finished_at=timezone.now(), **LOOK)
    letters = make_failed(3, "ReadTimeout: partner did not answer", "a-pause")
    about = {"filter": {"fingerprint": "a-pause"}, "state": "PAUSED", "total": 3, "skipped": 1}
    operation = ReplayOperation.objects.create(**about, **LOOK)
    skipped = {"state": "SKIPPED", "note": "its job runs already", "at": timezone.now()}
    ReplayItem.objects.create(operation=operation, letter=letters[0], **skipped)
    ReplayItem.objects.bulk_create(ReplayItem(operation=operation, letter=letter) for letter in letters[1:])


def make_numbers(at: datetime) -> None:
    """What the house notes for itself."""
    Rollup.objects.create(minute=at, queue="default", task="flaky")
    RollupProgress.objects.get_or_create(id=1, defaults={"frozen_until": at, "built_until": at})
    CounterState.objects.get_or_create(id=1, defaults={"until": at})
    Pace.objects.get_or_create(task="flaky")
    Batch.objects.create(worker_id=uuid4(), child_pid=1, queue="default", first_run_at=at, last_run_at=at)


def make_schedules() -> None:
    minute, _ = IntervalSchedule.objects.get_or_create(every=1, period="minutes")
    PeriodicTask.objects.get_or_create(name="a schedule", task="flaky", interval=minute)
    CrontabSchedule.objects.create(minute="2")
    ClockedSchedule.objects.create(clocked_time=timezone.now() + timedelta(days=1))
    SolarSchedule.objects.create(event="sunset", latitude=50, longitude=14)


def acts(mira: Person) -> Iterator[str]:
    """Each is a state of the page that is open, and has a name."""
    mira.open("/admin/api/apitoken/add/").write("#id_name", "ci").click("[name=_save]").waits(
        lambda: mira.all("#secret"), "the secret"
    )
    yield "a new token"
    mira.open("/admin/jobs/job/?q=tag:vip").click("details.filter > summary")
    yield "an open filter"
    mira.open("/admin/jobs/job/").click("tr:nth-child(1) .action-select").click("tr:nth-child(2) .action-select")
    yield "ticked rows"
    mira.press("Cancel").waits(lambda: mira.all("dl.outcomes"), "the confirmation")
    yield "the confirmation of ticked rows"
    mira.open(f"{GROUPS}a-pause/").click("#replay-abort").sees("cannot be resumed")
    yield "the abort of a replay"
    mira.open(change(DeadLetter.objects.filter(fingerprint="a-page")[0].job))
    for each in mira.all("details.attempt-error > summary"):
        each.click()
    mira.sees("+ConnectionError: refused")
    yield "the attempts of a job"
    job = submit("slow", {"seconds": 60})
    mira.waits(lambda: Job.objects.get(pk=job.pk).progress, "its progress")
    mira.open(change(job)).waits(lambda: mira.all("progress"), "the bar")
    yield "a running job"
    cancel(job.pk, actor="mira", reason="seen")


def forms(mira: Person) -> Iterator[str]:
    """Forms that were sent: with what is wrong, and with what they would do."""
    mira.open("/admin/jobs/job/submit/process_payment/").press("Submit job").sees("This field is required")
    yield "a refused submission"
    mira.open(change(DeadLetter.objects.filter(fingerprint="a-page")[0])).write("#id_reason", "wrong number")
    mira.write("#id_payload", '{"failures": "many"}').click("#edit-preview").sees("/payload/failures")
    yield "a refused payload"
    mira.write("#id_payload", '{"failures": 2}').click("#edit-preview").sees("+", css="#difference")
    yield "the difference of a payload"
    mira.open(f"{GROUPS}a-page/").write("#id_reason", "fixed").write("#id_pace", "5").click("#replay-preview")
    mira.sees("3 letters", css="#preview")
    yield "the preview of a replay"
    mira.write("#id_reason", " ").click("#replay-now").sees("This field is required")
    yield "a refused replay"
    mira.open(f"{GROUPS}a-page/drop/").write("#id_reason", " ").click("#drop-now").sees("This field is required")
    yield "a refused drop"
