"""Celery tasks of this app."""

from datetime import datetime
from typing import Annotated, Any, Literal

from celery import shared_task
from django.conf import settings
from pydantic import AfterValidator, Field

from jobs.effects import RunningJob
from jobs.models import Job
from jobs.task import JobTask
from monitoring import reports, retention, rollups
from monitoring.periods import Period, check_range, last_complete, parse_range

UserId = int | Annotated[str, Field(min_length=1, max_length=200)]
DateRange = Annotated[str, AfterValidator(check_range)]


@shared_task(base=JobTask, name="build_rollups")
def build_rollups() -> dict[str, Any]:
    """Count the minutes that are over."""
    built = rollups.build()
    return {"until": built.until.isoformat() if built.until else None, "complete": built.is_complete}


@shared_task(base=JobTask, name="queue_report", bind=True)
def queue_report(self: JobTask, period: Literal["hourly", "daily"]) -> dict[str, Any]:
    """Report on every queue in the last whole hour or day, and mail it to REPORT_RECIPIENTS."""
    job = _running(self)
    covered = last_complete(period, _submitted_at(job))
    _count_until(covered.end)
    report = reports.store_queue_report(period, covered, job.id)
    if settings.REPORT_RECIPIENTS:
        job.once("mail", lambda: reports.mail(report, settings.REPORT_RECIPIENTS))
    return {"report_id": report.pk, "period": str(covered), "url": reports.url(report, "report")}


@shared_task(base=JobTask, name="generate_report", bind=True)
def generate_report(
    self: JobTask,
    report_type: Literal["monthly_summary", "user_activity", "failures"],
    user_id: UserId,
    date_range: DateRange = "last_30_days",
) -> dict[str, Any]:
    """Build a PDF and a CSV file about the jobs of a period."""
    job = _running(self)
    asked_at = _submitted_at(job)
    period = parse_range(date_range, asked_at)
    job.progress(0, 4, "counting")
    _count_until(min(period.end, asked_at))
    job.progress(1, 4, "reading")
    found = reports.activity(report_type, period, str(user_id))
    job.progress(2, 4, "drawing")
    pdf, pages = reports.drawn(found.document)
    job.progress(3, 4, "storing")
    report = reports.store_activity(job.id, report_type, period, found, pdf)
    job.progress(4, 4, "stored")
    return _described(report, period, rows=len(found.rows), pages=pages)


@shared_task(base=JobTask, name="retire_jobs")
def retire_jobs() -> dict[str, int]:
    """Delete what is older than the retention allows."""
    return retention.retire()


def _running(task: JobTask) -> RunningJob:
    if task.job is None:
        raise RuntimeError(f"{task.name} needs a job to run in: submit it.")
    return task.job


def _submitted_at(job: RunningJob) -> datetime:
    """Not the time of this attempt: a retry must report on the same period."""
    return Job.objects.values_list("created_at", flat=True).get(pk=job.id)


def _count_until(end: datetime) -> None:
    """Raises, and so has the report tried again, when the rollups are further behind than one run can build."""
    built = rollups.build(wait=True)
    if built.until is None or built.until < rollups.floor_minute(end):
        raise RuntimeError(f"The rollups reach until {built.until}, the report needs them until {end}.")


def _described(report: Any, period: Period, *, rows: int, pages: int) -> dict[str, Any]:
    return {
        "report_id": report.pk,
        "period": str(period),
        "rows": rows,
        "pages": pages,
        "pdf_bytes": len(report.pdf),
        "csv_bytes": len(report.csv),
        "url": reports.url(report, "report"),
        "pdf_url": reports.url(report, "report-pdf"),
        "csv_url": reports.url(report, "report-csv"),
    }
