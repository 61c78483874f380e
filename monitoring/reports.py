"""Reports as rows: built, stored once per period or per job, and mailed."""

from dataclasses import asdict
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.db.models.functions import Now
from django.template.loader import render_to_string

from jobs.models import Job
from jobs.states import WAITING
from monitoring.activity import Activity, failures, monthly_summary
from monitoring.documents import COUNT_COLUMNS, TIME_COLUMNS, Document, Table, count_cells, csv_file, duration, times_ms
from monitoring.models import Report, Rollup
from monitoring.periods import Period
from monitoring.totals import Totals, totals
from monitoring.users import user_activity

ACTIVITIES = {"monthly_summary": monthly_summary, "user_activity": user_activity, "failures": failures}
QUEUE_COLUMNS = [
    "queue", "submitted", "succeeded", "failed", "retried", "dead_lettered",
    "wait_p50_ms", "wait_p95_ms", "run_p50_ms", "run_p95_ms", "oldest_waiting_job", "oldest_waiting_seconds",
]  # fmt: skip
ENDINGS = {"report": "/", "report-csv": ".csv", "report-pdf": ".pdf"}


def activity(report_type: str, period: Period, user_id: str) -> Activity:
    return ACTIVITIES[report_type](period, user_id)


def store_activity(job_id: UUID, kind: str, period: Period, found: Activity, pdf: bytes) -> Report:
    """The report of this job; a retry replaces what an earlier attempt stored."""
    values = {
        "kind": kind,
        "period_start": period.start,
        "period_end": period.end,
        "data": asdict(found.document),
        "csv": csv_file(found.header, found.rows),
        "pdf": pdf,
    }
    report, _ = Report.objects.update_or_create(job_id=job_id, defaults=values)
    return report


def store_queue_report(kind: str, period: Period, job_id: UUID) -> Report:
    """The queues' report of one period; asked for twice, it is one row."""
    queues = _queues(period)
    document = _queue_document(kind, period, queues)
    pdf, _ = drawn(document)
    report, _ = Report.objects.update_or_create(
        kind=kind,
        period_start=period.start,
        period_end=period.end,
        defaults={
            "data": asdict(document) | {"queues": queues},
            "csv": csv_file(QUEUE_COLUMNS, [[queue[name] for name in QUEUE_COLUMNS] for queue in queues]),
            "pdf": pdf,
            "job_id": job_id,
        },
    )
    return report


def drawn(document: Document) -> tuple[bytes, int]:
    """The PDF file and its number of pages."""
    # What draws takes 8 MiB, which a worker of other tasks need not have.
    from monitoring.pdf import render

    return render(document)


def mail(report: Report, recipients: list[str]) -> int:
    """Send it as text and HTML with the CSV file attached; how many messages went out."""
    context = {"report": report, "url": url(report, "report")}
    message = EmailMultiAlternatives(
        subject=f"{report.data['title']}, {report.data['subtitle']}",
        body=render_to_string("monitoring/report_mail.txt", context),
        to=recipients,
    )
    message.attach_alternative(render_to_string("monitoring/report_mail.html", context), "text/html")
    message.attach(file_name(report, "csv"), bytes(report.csv), "text/csv")
    return message.send()


def url(report: Report, name: str) -> str:
    """Where a report is found: monitoring.urls, written down here because looking it up would load the whole site."""
    return f"{settings.SITE_URL.rstrip('/')}/reports/{report.pk}{ENDINGS[name]}"


def file_name(report: Report, suffix: str) -> str:
    return f"{report.kind}-{report.period_start:%Y-%m-%dT%H%M}.{suffix}"


def _queues(period: Period) -> list[dict[str, Any]]:
    found = totals(Rollup.objects.filter(minute__gte=period.start, minute__lt=period.end), "queue")
    return [_queue(name, found.get(name, Totals())) for name in settings.JOB_QUEUES]


def _queue(name: str, part: Totals) -> dict[str, Any]:
    waiting = Job.objects.unfinished().filter(queue=name, state__in=WAITING, run_at__lte=Now()).order_by("run_at")
    oldest = waiting.annotate(now=Now()).values("id", "run_at", "now").first()
    ages = [str(oldest["id"]), round((oldest["now"] - oldest["run_at"]).total_seconds())] if oldest else [None, None]
    rounded = [None if ms is None else round(ms, 1) for ms in times_ms(part)]
    return dict(zip(QUEUE_COLUMNS, [name, *count_cells(part), *rounded, *ages], strict=True))


def _queue_document(kind: str, period: Period, queues: list[dict[str, Any]]) -> Document:
    rows = [[queue[name] for name in QUEUE_COLUMNS[:6]] for queue in queues]
    times = [[queue["queue"], *(duration(queue[name]) for name in QUEUE_COLUMNS[6:10])] for queue in queues]
    waiting = [[queue["queue"], queue["oldest_waiting_job"], _age(queue)] for queue in queues]
    tables = [
        Table("Jobs", ["Queue", *COUNT_COLUMNS], rows),
        Table("Waiting and run times", ["Queue", *TIME_COLUMNS], times),
        Table("Waiting longest, when this was written", ["Queue", "Job", "For"], waiting),
    ]
    return Document(f"Queues, {kind}", str(period), tables)


def _age(queue: dict[str, Any]) -> str:
    seconds = queue["oldest_waiting_seconds"]
    return duration(None if seconds is None else seconds * 1000)
