"""Rollups and reports in the control panel: to look at, not to edit."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from api.readfirst import ReadFirstAdmin, ago
from monitoring.models import CounterState, Report, Rollup, RollupProgress
from monitoring.totals import COUNTS


@admin.register(Rollup)
class RollupAdmin(ReadFirstAdmin):
    list_display = ["minute", "queue", "task", *COUNTS[:12]]
    list_filter = ["queue"]
    search_fields = ["=task"]


@admin.register(RollupProgress)
class RollupProgressAdmin(ReadFirstAdmin):
    list_display = ["built_until", "frozen_until", "succeeded", "failed"]
    lede = "How far the rollups are built. Charts show what is built."


@admin.register(CounterState)
class CounterStateAdmin(ReadFirstAdmin):
    list_display = ["until"]
    lede = "What the counters in the metrics add up to before this moment."


@admin.register(Report)
class ReportAdmin(ReadFirstAdmin):
    list_display = ["c_name", "kind", "period", "files", "written"]
    list_display_links = None
    list_filter = ["kind"]
    lede = "What was: written by schedules and by jobs, and kept as long as the retention says."
    empty_title = "No report yet"
    empty_text = "The hourly one is written two minutes after each hour, or run its schedule now."
    date_hierarchy = "period_start"
    fields = ["kind", "period_start", "period_end", "files", "job", "created_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Report]:
        return super().get_queryset(request).defer("csv", "pdf", "data").select_related("job")

    @admin.display(description="report")
    def c_name(self, report: Report) -> SafeString:
        return format_html('<a class="job-link" href="{}">{}</a>', reverse("report", args=[report.pk]), report)

    @admin.display(description="period, UTC")
    def period(self, report: Report) -> str:
        return f"{report.period_start:%Y-%m-%d %H:%M} to {report.period_end:%Y-%m-%d %H:%M}"

    @admin.display(description="written")
    def written(self, report: Report) -> str:
        return ago(report.created_at)

    @admin.display(description="open")
    def files(self, report: Report) -> SafeString:
        return format_html(
            '<span class="files"><a class="link" href="{}">Page</a> <a class="link" href="{}">CSV</a>'
            ' <a class="link" href="{}">PDF</a></span>',
            *(reverse(name, args=[report.pk]) for name in ("report", "report-csv", "report-pdf")),
        )
