"""django-celery-beat's pages, with what an operator asks of a schedule: when next, what came of it, run it now."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from django_celery_beat.admin import PeriodicTaskAdmin
from django_celery_beat.models import PeriodicTask

from api.confirmation import Acting
from api.readfirst import ago
from jobs.admin.acts import SCHEDULE_VERBS
from jobs.admin.columns import lamp
from jobs.admin.timetable import Timetable, timetables
from jobs.errors import JobError
from jobs.schedules import run_now

admin.site.unregister(PeriodicTask)


@admin.register(PeriodicTask)
class ScheduleAdmin(Acting, PeriodicTaskAdmin):
    list_display_links = None
    list_filter = ("enabled", "one_off")
    date_hierarchy = None
    sortable_by = ("c_name",)
    # Celery-beat's own actions ask nobody and leave no trace.
    actions = ()
    verbs = SCHEDULE_VERBS
    lede = "What beat submits by itself. A missed tick is one whose job was never submitted."
    empty_value_display = ""
    show_facets = admin.ShowFacets.NEVER

    def get_urls(self) -> list[URLPattern]:
        run = self.admin_site.admin_view(self.run)
        return [path("<int:schedule_id>/run/", run, name="jobs_run_schedule"), *super().get_urls()]

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Columns that share one look at the jobs of all schedules."""
        known = timetables(self.get_queryset(request))
        may_run = request.user.has_perm("jobs.submit_job")

        @admin.display(description="name", ordering="name")
        def c_name(schedule: PeriodicTask) -> SafeString:
            page = reverse("admin:django_celery_beat_periodictask_change", args=[schedule.pk])
            text = '<a class="job-link" href="{}">{}</a> <span class="hint">{}</span>'
            return format_html(text, page, schedule.name, schedule.task)

        @admin.display(description="next run")
        def c_next(schedule: PeriodicTask) -> str:
            return ago(known[schedule.pk].upcoming[0]) if _has_next(known, schedule) else ""

        @admin.display(description="last outcome")
        def c_last(schedule: PeriodicTask) -> str | SafeString:
            last = known[schedule.pk].last if schedule.pk in known else None
            return _outcome(last.job) if last is not None else ""

        @admin.display(description="missed")
        def c_missed(schedule: PeriodicTask) -> str | SafeString:
            number = known[schedule.pk].missed if schedule.pk in known else 0
            return format_html('<span class="hot">{} of the last 5</span>', number) if number else ""

        @admin.display(description="")
        def c_buttons(schedule: PeriodicTask) -> str | SafeString:
            address = reverse("admin:jobs_run_schedule", args=[schedule.pk])
            text = '<button class="button soft small" formaction="{}" formnovalidate>Run now</button>'
            return format_html(text, address) if may_run else ""

        return [c_name, "c_when", "enabled", c_next, c_last, c_missed, c_buttons]

    @admin.display(description="schedule")
    def c_when(self, schedule: PeriodicTask) -> SafeString:
        raw = str(schedule.scheduler)
        return format_html('<span title="{}">{}</span>', raw, getattr(schedule.crontab, "human_readable", raw))

    def changeform_view(self, request: HttpRequest, object_id: str | None = None, *args: Any, **options: Any) -> Any:
        context = dict(options.pop("extra_context", None) or {})
        schedule = PeriodicTask.objects.filter(pk=object_id).first() if object_id and object_id.isdecimal() else None
        if schedule is not None:
            context["timetable"] = timetables([schedule]).get(schedule.pk)
            context["may_run"] = request.user.has_perm("jobs.submit_job")
        return super().changeform_view(request, object_id, extra_context=context)

    def run(self, request: HttpRequest, schedule_id: int) -> HttpResponse:
        """Submit its job now, whatever its next tick."""
        return _run(request, schedule_id)


@require_POST
def _run(request: HttpRequest, schedule_id: int) -> HttpResponse:
    if not request.user.has_perm("jobs.submit_job"):
        raise PermissionDenied
    schedule = get_object_or_404(PeriodicTask, pk=schedule_id)
    try:
        job = run_now(schedule, actor=request.user.get_username())
    except JobError as error:
        messages.error(request, f"Not run: {error}")
        return HttpResponseRedirect(reverse("admin:django_celery_beat_periodictask_changelist"))
    messages.success(request, f"Submitted {schedule.name}, outside its schedule.")
    return HttpResponseRedirect(reverse("admin:jobs_job_change", args=[job.pk]))


def _has_next(known: dict[int, Timetable], schedule: PeriodicTask) -> bool:
    return schedule.pk in known and bool(known[schedule.pk].upcoming)


def _outcome(job: Any) -> SafeString:
    page = reverse("admin:jobs_job_change", args=[job.pk])
    return format_html('<a href="{}">{}</a> <span class="hint">{}</span>', page, lamp(job), ago(job.created_at))
