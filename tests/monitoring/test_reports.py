import csv
import io
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core import mail
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from api.models import ApiToken
from jobs.cancellation import retry_now
from jobs.diagnosis import plain
from jobs.effects import RunningJob
from jobs.errors import InvalidJob
from jobs.execution import claim, execute
from jobs.execution import run as run_body
from jobs.models import Job
from jobs.outcomes import Died, Succeeded
from jobs.settlement import settle
from jobs.submission import submit
from monitoring import reports
from monitoring.documents import Bar, Document, Table, csv_file
from monitoring.models import Report
from monitoring.pdf import render
from monitoring.periods import last_complete, parse_range
from monitoring.tasks import generate_report, queue_report
from tests.making import make_job
from tests.monitoring.making import make_attempt, make_finished, make_letter

pytestmark = pytest.mark.filterwarnings("ignore:No directory at")
NOW = datetime(2026, 11, 20, 10, 30, tzinfo=UTC)


def run(task: Any, payload: dict[str, Any]) -> Job:
    """Submit and run a job in this process; the row afterwards."""
    job = submit(task, payload)
    execute(task, job.id)
    job.refresh_from_db()
    assert job.state == "SUCCESS", job.error
    return job


def make_hour() -> datetime:
    """Something to report on in the last whole hour; its start."""
    start = last_complete("hourly", timezone.now()).start
    at = start + timedelta(minutes=20)
    # The rollups begin with the first job.
    make_finished(at=at, queue="high", wait=0.4, run=0.06, created_at=start)
    failed = make_finished(at=at, state="FAILURE", queue="high")
    make_attempt(failed, 1, "RETRY", at=at, delay=2.0)
    make_attempt(failed, 2, "FAILURE", at=at, delay=None)
    make_letter(failed, at=at)
    make_finished(at=start - timedelta(minutes=1), queue="high", created_at=start)
    return start


def rows_of(report: Report) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(bytes(report.csv).decode())))


@pytest.mark.django_db(transaction=True)
def test_a_queue_report_tells_what_every_queue_did_in_the_last_whole_hour(at_work: Any) -> None:
    start = make_hour()
    waiting = make_job(queue="low")
    job = run(queue_report, {"period": "hourly"})
    report = Report.objects.get(pk=job.result["report_id"])
    assert (report.kind, report.period_start, report.period_end) == ("hourly", start, start + timedelta(hours=1))
    rows = {row["queue"]: row for row in rows_of(report)}
    assert list(rows) == ["high", "default", "low", "solo", "system"]
    high = rows["high"]
    assert [high[name] for name in ("submitted", "succeeded", "failed", "retried", "dead_lettered")] == [
        "3",
        "1",
        "1",
        "1",
        "1",
    ]
    assert 250 < float(high["wait_p50_ms"]) <= 5000
    assert float(high["run_p95_ms"]) >= 1000
    assert rows["low"]["oldest_waiting_job"] == str(waiting.id)
    assert rows["default"]["oldest_waiting_job"] == ""
    assert bytes(report.pdf or b"").startswith(b"%PDF")


@pytest.mark.django_db(transaction=True)
def test_the_same_period_reported_twice_is_one_row(at_work: Any) -> None:
    make_hour()
    first, second = (run(queue_report, {"period": "daily"}) for _ in range(2))
    assert Report.objects.get().pk == first.result["report_id"] == second.result["report_id"]
    assert Report.objects.get().job_id == second.id


@pytest.mark.django_db(transaction=True)
def test_a_report_is_mailed_once_even_when_its_job_is_tried_again(at_work: Any, settings: Any) -> None:
    settings.REPORT_RECIPIENTS = ["ops@example.org"]
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    make_hour()
    job = submit(queue_report, {"period": "hourly"})
    [held] = claim(job.id, until=time.monotonic() + 10)
    assert isinstance(run_body(queue_report, held), Succeeded)
    settle(held, Died(plain("WORKER_LOST", "It died between the mail and the settlement.")))
    retry_now(job.id, actor="test")
    execute(queue_report, job.id)
    job.refresh_from_db()
    assert (job.state, job.attempt) == ("SUCCESS", 2)
    [message] = mail.outbox
    assert message.to == ["ops@example.org"]
    assert "Queues, hourly" in message.subject
    assert "high | 3 | 1 | 1 | 1 | 1" in message.body
    [(html, kind)] = message.alternatives
    assert kind == "text/html"
    assert "<td>high</td>" in html
    [attachment] = message.attachments
    assert attachment[0].endswith(".csv")
    assert "oldest_waiting_job" in attachment[1]


@pytest.mark.django_db(transaction=True)
def test_without_recipients_nothing_is_mailed(at_work: Any, settings: Any) -> None:
    settings.REPORT_RECIPIENTS = []
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    make_hour()
    assert run(queue_report, {"period": "hourly"}).result["report_id"] == Report.objects.get().pk
    assert mail.outbox == []


@pytest.mark.django_db(transaction=True)
def test_a_report_says_which_stage_it_is_at(at_work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make_hour()
    said: list[Any] = []
    monkeypatch.setattr(RunningJob, "progress", lambda _, *stage: said.append(stage))
    run(generate_report, {"report_type": "failures", "user_id": "usr_1"})
    assert said == [(0, 4, "counting"), (1, 4, "reading"), (2, 4, "drawing"), (3, 4, "storing"), (4, 4, "stored")]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["monthly_summary", "user_activity", "failures"])
def test_every_type_of_report_gets_a_pdf_and_a_csv_file(at_work: Any, kind: str) -> None:
    make_hour()
    payload = {"report_type": kind, "user_id": "usr_1", "date_range": "last_30_days"}
    job = run(generate_report, payload)
    report = Report.objects.get()
    assert (report.kind, report.job_id) == (kind, job.id)
    assert bytes(report.pdf or b"").startswith(b"%PDF")
    assert job.result["pdf_bytes"] == len(report.pdf or b"")
    assert job.result["csv_bytes"] == len(report.csv)
    assert job.result["rows"] == len(rows_of(report))
    assert job.result["pages"] >= 1
    assert job.result["url"].endswith(f"/reports/{report.pk}/")
    assert job.progress["done"] == job.progress["total"]


@pytest.mark.django_db(transaction=True)
def test_user_activity_is_about_the_jobs_of_that_user_alone(at_work: Any) -> None:
    mine = [make_job("process_payment", payment(user), queue="high") for user in ("usr_1", "usr_1", "usr_2")][:2]
    run(generate_report, {"report_type": "user_activity", "user_id": "usr_1", "date_range": "last_24_hours"})
    assert {row["id"] for row in rows_of(Report.objects.get())} >= {str(job.id) for job in mine}
    assert "usr_2" not in str(Report.objects.get().data)
    tasks = {row["task"]: row for row in rows_of(Report.objects.get())}
    assert set(tasks) <= {"process_payment", "generate_report"}


def payment(user: str) -> dict[str, Any]:
    return {"user_id": user, "amount": 10, "currency": "EUR"}


@pytest.mark.django_db(transaction=True)
def test_a_retry_replaces_the_report_of_its_job(at_work: Any) -> None:
    make_hour()
    period = parse_range("last_7_days", timezone.now())
    job = make_job()
    found = reports.activity("monthly_summary", period, "1")
    first = reports.store_activity(job.id, "monthly_summary", period, found, b"%PDF-1")
    second = reports.store_activity(job.id, "monthly_summary", period, found, b"%PDF-2")
    assert first.pk == second.pk
    assert bytes(Report.objects.get().pdf or b"") == b"%PDF-2"


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("last_30_days", "2026-10-21T10:30", "2026-11-20T10:30"),
        ("last_24_hours", "2026-11-19T10:30", "2026-11-20T10:30"),
        ("2026-02-01/2026-02-28", "2026-02-01T00:00", "2026-03-01T00:00"),
        ("2024-01-01/2024-12-31", "2024-01-01T00:00", "2025-01-01T00:00"),
    ],
)
def test_a_date_range_is_a_period(text: str, start: str, end: str) -> None:
    period = parse_range(text, NOW)
    assert (f"{period.start:%Y-%m-%dT%H:%M}", f"{period.end:%Y-%m-%dT%H:%M}") == (start, end)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"date_range": "2026-03-02/2026-03-01"}, "/payload/date_range"),
        ({"date_range": "2024-01-01/2025-01-01"}, "/payload/date_range"),
        ({"date_range": "yesterday"}, "/payload/date_range"),
        ({"date_range": "2026-02-30/2026-03-01"}, "/payload/date_range"),
        ({"report_type": "weekly"}, "/payload/report_type"),
        ({"user_id": ""}, "/payload/user_id"),
        ({"user_id": None}, "/payload/user_id"),
    ],
)
def test_a_wrong_argument_is_refused_by_name_when_it_is_submitted(change: dict[str, Any], field: str) -> None:
    payload = {"report_type": "monthly_summary", "user_id": 7, "date_range": "last_7_days"}
    with pytest.raises(InvalidJob) as refused:
        submit(generate_report, payload | change)
    assert refused.value.field.startswith(field)
    assert not Job.objects.exists()


def test_the_last_complete_period_is_over() -> None:
    assert str(last_complete("hourly", NOW)) == "2026-11-20 09:00 to 2026-11-20 10:00 UTC"
    assert str(last_complete("daily", NOW)) == "2026-11-19 00:00 to 2026-11-20 00:00 UTC"


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1"])
def test_no_cell_of_a_csv_file_is_taken_for_a_formula(cell: str) -> None:
    text = csv_file(["a"], [[cell], [-1], [""], [None]]).decode()
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows == [["a"], [f"'{cell}"], ["-1"], [""], [""]]


def test_a_long_pdf_has_as_many_pages_as_it_needs_and_takes_any_text() -> None:
    table = Table("Tasks & <b>things", ["Task", "One", "Two", "Three"], [["x < y & z ü 日本", 1000, None, "–"]] * 200)
    bars = [Bar(f"{day:02}", day, day % 3) for day in range(62)]
    file, pages = render(Document("Title <i>", "Subtitle", [table, Table("Empty", ["A"], [])], bars))
    assert file.startswith(b"%PDF")
    assert pages > 3
    assert file.count(b"/Type /Page\n") in (0, pages)


@pytest.fixture
def report(db: None) -> Report:
    document = {"title": "Queues, hourly", "subtitle": "<now>", "tables": [], "bars": []}
    period = last_complete("hourly", NOW)
    return Report.objects.create(
        kind="hourly", period_start=period.start, period_end=period.end, data=document, csv=b"a,b\r\n", pdf=b"%PDF-1.4"
    )


def addresses(report: Report) -> list[str]:
    return [f"/reports/{report.pk}/", f"/reports/{report.pk}.csv", f"/reports/{report.pk}.pdf"]


def make_staff(*permissions: str) -> Client:
    user = get_user_model().objects.create_user(f"staff{len(permissions)}", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def test_staff_with_the_permission_may_open_a_report(report: Report) -> None:
    reader, other = make_staff("view_report"), make_staff()
    for address in addresses(report):
        assert reader.get(address).status_code == 200
        assert other.get(address).status_code == 403
        assert Client().get(address)["Location"].startswith("/admin/login/?next=")
    assert b"&lt;now&gt;" in reader.get(addresses(report)[0]).content


def test_a_token_may_open_a_report_when_it_may_read(report: Report) -> None:
    owner = get_user_model().objects.create_user("owner")
    for scopes, status in ((["read"], 200), (["submit"], 403)):
        _, token = ApiToken.issue(name="t", owner=owner, scopes=scopes)
        for address in addresses(report):
            assert Client().get(address, headers={"Authorization": f"Bearer {token}"}).status_code == status
    assert Client().get(addresses(report)[0], headers={"Authorization": "Bearer no.such"}).status_code == 401


def test_downloads_are_named_for_what_they_are(report: Report) -> None:
    client = make_staff("view_report")
    _, file, pdf = (client.get(address) for address in addresses(report))
    assert file["Content-Disposition"] == 'attachment; filename="hourly-2026-11-20T0900.csv"'
    assert (pdf["Content-Type"], pdf.content) == ("application/pdf", b"%PDF-1.4")


def test_the_admin_shows_rollups_and_reports_and_changes_neither(report: Report) -> None:
    admin = Client()
    admin.force_login(get_user_model().objects.create_superuser("root"))
    for address in ("/admin/monitoring/rollup/", "/admin/monitoring/report/"):
        assert admin.get(address).status_code == 200
        assert admin.get(f"{address}add/").status_code == 403
    page = admin.get(f"/admin/monitoring/report/{report.pk}/change/")
    assert f"/reports/{report.pk}.csv".encode() in page.content
    assert admin.post(f"/admin/monitoring/report/{report.pk}/delete/", {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("name", reports.ENDINGS)
def test_the_address_in_a_mail_is_where_the_report_stands(name: str) -> None:
    assert reports.url(Report(pk=7), name) == settings.SITE_URL.rstrip("/") + reverse(name, args=[7])
