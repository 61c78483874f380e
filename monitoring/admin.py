"""Rollups and reports in the control panel: to look at, not to edit."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from api.readfirst import ReadFirstAdmin
from monitoring.models import Report, Rollup
from monitoring.totals import COUNTS


@admin.register(Rollup)
class RollupAdmin(ReadFirstAdmin):
    list_display = ["minute", "queue", "task", *COUNTS[:10]]
    list_filter = ["queue"]
    search_fields = ["=task"]


@admin.register(Report)
class ReportAdmin(ReadFirstAdmin):
    list_display = ["__str__", "kind", "period_start", "period_end", "files", "created_at"]
    list_filter = ["kind"]
    date_hierarchy = "period_start"
    fields = ["kind", "period_start", "period_end", "files", "job", "created_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Report]:
        return super().get_queryset(request).defer("csv", "pdf", "data").select_related("job")

    @admin.display(description="Open")
    def files(self, report: Report) -> SafeString:
        return format_html(
            '<a href="{}">Page</a> <a href="{}">CSV</a> <a href="{}">PDF</a>',
            *(reverse(name, args=[report.pk]) for name in ("report", "report-csv", "report-pdf")),
        )
