"""Reports over HTTP: the latest of each kind as JSON, CSV and PDF."""

from datetime import datetime
from typing import Annotated, Any

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router, Schema

from api.paging import page
from api.parameters import Cursor, Limit
from api.problems import Problem
from api.tokens import allowed
from monitoring.models import Report
from monitoring.reports import file_name, url

router = Router(tags=["reports"], auth=allowed("read", "monitoring.view_report"))
FILE = {"type": "string", "format": "binary"}


class ReportSummary(Schema):
    id: int
    kind: str
    period_start: datetime
    period_end: datetime
    created_at: datetime
    url: str


class ReportDetails(ReportSummary):
    data: dict[str, Any]


class ReportPage(Schema):
    items: list[ReportSummary]
    next: str | None


@router.get("/reports", response={200: ReportPage})
def list_reports(
    request: HttpRequest, cursor: Cursor, limit: Limit, kind: Annotated[Report.Kind | None, Query(None)]
) -> Any:
    """Reports, newest first."""
    rows = Report.objects.defer("data", "csv", "pdf")
    found = page(rows if kind is None else rows.filter(kind=kind), cursor, limit)
    return {"items": [_summary(row) for row in found.rows], "next": found.next}


@router.get("/reports/{kind}/latest", response={200: ReportDetails})
def latest_report(request: HttpRequest, kind: Report.Kind) -> Any:
    """The report of the latest period of its kind."""
    report = _latest(kind, without=("csv", "pdf"))
    return _summary(report) | {"data": report.data}


@router.get(
    "/reports/{kind}/latest.csv",
    openapi_extra={"responses": {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}},
)
def latest_report_csv(request: HttpRequest, kind: Report.Kind) -> Any:
    """The same as a CSV file."""
    report = _latest(kind, without=("data", "pdf"))
    return _file(report, bytes(report.csv), "csv", "text/csv; charset=utf-8")


@router.get(
    "/reports/{kind}/latest.pdf",
    openapi_extra={"responses": {200: {"content": {"application/pdf": {"schema": FILE}}}}},
)
def latest_report_pdf(request: HttpRequest, kind: Report.Kind) -> Any:
    """The same as a PDF file."""
    report = _latest(kind, without=("data", "csv"))
    if report.pdf is None:
        raise Problem("not-found", "This report has no PDF.")
    return _file(report, bytes(report.pdf), "pdf", "application/pdf")


def _latest(kind: str, *, without: tuple[str, ...]) -> Report:
    report = Report.objects.filter(kind=kind).order_by("-period_start", "-id").defer(*without).first()
    if report is None:
        raise Problem("not-found", f"There is no {kind} report yet.")
    return report


def _summary(report: Report) -> dict[str, Any]:
    same = ("id", "kind", "period_start", "period_end", "created_at")
    return {name: getattr(report, name) for name in same} | {"url": url(report, "report")}


def _file(report: Report, content: bytes, suffix: str, content_type: str) -> HttpResponse:
    name = f'attachment; filename="{file_name(report, suffix)}"'
    return HttpResponse(content, content_type=content_type, headers={"Content-Disposition": name})
