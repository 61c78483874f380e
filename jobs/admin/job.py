"""Jobs in the admin: a list that stays fast, a page that tells the whole story of one."""

import csv
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from api.confirmation import MOST_AT_ONCE, ActingAdmin, Verb
from api.masking import masked
from api.readable import readable_json, readable_traceback
from api.readfirst import ago
from jobs import operations, why
from jobs.admin import columns
from jobs.admin.acts import JOB_VERBS
from jobs.admin.listing import CreatedFilter, JobList, StateFilter, every, wanted
from jobs.admin.operations import ask, means_everything
from jobs.admin.policies import policies_page
from jobs.admin.searching import SEARCH_HELP, QueueFilter, TaskFilter, check_search, found, is_about_secrets
from jobs.admin.story import Story
from jobs.admin.submitting import submit_page, tasks_page
from jobs.browsing import LOOKED_AT
from jobs.models import Job
from jobs.policies import policy

# Columns the list never shows, which may be large.
HEAVY = ("payload", "progress", "result", "error", "traceback", "trace")
MOST_EXPORTED = 10_000
EXPORTED = ("id", "task", "queue", "state", "attempt", "retries", "created_at", "run_at", "started_at", "finished_at",
            "error_code")  # fmt: skip
# What other apps know of a job: titles with addresses and words.
LINKS: list[Callable[[Job], Iterable[tuple[str, str, str]]]] = []


@admin.register(Job)
class JobAdmin(ActingAdmin):
    list_display = ("state_lamp", "c_job", "c_id", "queue", "c_tries", "c_wait", "c_run", "c_age")
    list_display_links = None
    list_filter = (StateFilter, QueueFilter, TaskFilter, CreatedFilter)
    # Only says that there is a search box; what it finds is in jobs.admin.searching.
    search_fields = ("pk",)
    search_help_text = SEARCH_HELP
    ordering = ("-created_at", "-id")
    verbs = JOB_VERBS
    change_list_template = "admin/jobs/job/change_list.html"
    empty_title = "No jobs yet"
    empty_text = "Submit one with the button above, or from your code."

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own: list[URLPattern] = [
            path("export.csv", view(self.export), name="jobs_export"),
            path("submit/", view(tasks_page), name="jobs_submit"),
            path("submit/<str:task>/", view(submit_page), name="jobs_submit_task"),
            path("policies/", view(policies_page), name="jobs_policies"),
        ]
        return own + super().get_urls()

    def get_changelist(self, request: HttpRequest, **options: Any) -> type[JobList]:
        return JobList

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        resolved = request.resolver_match
        is_list = resolved is not None and resolved.url_name == "jobs_job_changelist"
        jobs = super().get_queryset(request)
        return jobs.defer(*HEAVY) if is_list else jobs.select_related("key")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        more = {"may_submit": request.user.has_perm("jobs.submit_job")}
        return super().changelist_view(request, more | (extra_context or {}))

    def change_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        """The story of a job; nothing of it can be edited."""
        job = self.get_object(request, object_id)
        if request.method != "GET" or not self.has_view_permission(request, job):
            raise PermissionDenied
        if job is None:
            raise Http404(f"There is no job {object_id}.")
        hidden = () if request.user.has_perm("jobs.view_payload") else policy(job.task).redacted
        context = self.admin_site.each_context(request) | {
            "title": f"{job.task} {job.pk}",
            "opts": self.opts,
            "job": job,
            "story": Story(job),
            "why": None if job.is_final else why.reasons(why.look_up(job.pk)),
            "buttons": self.buttons(request, job),
            "tries": columns.tries(job),
            "payload": readable_json(masked(job.payload, hidden)),
            "result": readable_json(masked(job.result, hidden)) if job.result is not None else "",
            "traceback": readable_traceback(job.traceback or ""),
            "hides": bool(hidden) and masked(job.payload, hidden) != job.payload,
            "effects": [
                (effect, readable_json(masked(effect.outcome, hidden))) for effect in job.effects.order_by("pk")
            ],
            "links": [link for links in LINKS for link in links(job)],
        }
        return TemplateResponse(request, "admin/jobs/job/story.html", context)

    def confirm(self, verb: Verb, request: HttpRequest, selected: QuerySet) -> HttpResponse | None:
        """Everything that matches is an operation when it is more than one request may touch."""
        if not means_everything(request):
            return super().confirm(verb, request, selected)
        chosen = wanted(request, request.GET.get("q", "")).as_json()
        if operations.count(verb.name, chosen, most=MOST_AT_ONCE + 1) > MOST_AT_ONCE:
            return ask(self, verb, request, chosen)
        return super().confirm(verb, request, operations.ACTS[verb.name].candidates(chosen).order_by("-pk"))

    def get_search_results(self, request: HttpRequest, queryset: QuerySet, search_term: str) -> tuple[QuerySet, bool]:
        if not search_term.strip():
            return queryset, False
        check_search(self, request, search_term, otherwise=f"each page looks at {LOOKED_AT:,} jobs only")
        return found(queryset, search_term), False

    def export(self, request: HttpRequest) -> StreamingHttpResponse:
        """What the list shows, as CSV, the newest MOST_EXPORTED of it; without payloads."""
        text = request.GET.get("q", "")
        if not self.has_view_permission(request) or (
            is_about_secrets(text) and not request.user.has_perm("jobs.view_payload")
        ):
            raise PermissionDenied
        headers = {"Content-Disposition": 'attachment; filename="jobs.csv"'}
        return StreamingHttpResponse(
            _csv(every(request, text, MOST_EXPORTED)), content_type="text/csv", headers=headers
        )

    @admin.display(description="state")
    def state_lamp(self, job: Job) -> SafeString:
        return columns.lamp(job)

    @admin.display(description="job")
    def c_job(self, job: Any) -> SafeString:
        address = reverse("admin:jobs_job_change", args=[job.pk])
        return format_html('<a class="job-link" href="{}">{}</a>{}', address, job.task, columns.hint(job))

    @admin.display(description="ID")
    def c_id(self, job: Job) -> SafeString:
        # The end of a UUIDv7 tells jobs apart, its beginning only minutes; the search takes the beginning.
        return format_html('<code title="{}">{}</code>', job.pk, str(job.pk)[:13])

    @admin.display(description="attempt")
    def c_tries(self, job: Job) -> str:
        return columns.tries(job)

    @admin.display(description="waited")
    def c_wait(self, job: Job) -> str:
        return columns.waited(job)

    @admin.display(description="ran")
    def c_run(self, job: Job) -> str | SafeString:
        return columns.ran(job)

    @admin.display(description="created")
    def c_age(self, job: Job) -> str:
        return ago(job.created_at)


class _Line:
    """A file that hands back what is written to it."""

    def write(self, text: str) -> str:
        return text


def _csv(jobs: Iterable[Job]) -> Iterator[str]:
    writer = csv.writer(_Line())
    yield writer.writerow(EXPORTED)
    for job in jobs:
        yield writer.writerow([_cell(getattr(job, name)) for name in EXPORTED])


def _cell(value: Any) -> str:
    """A spreadsheet must not take a text for a formula."""
    text = "" if value is None else value.isoformat() if hasattr(value, "isoformat") else str(value)
    return f"'{text}" if text[:1] in "=+-@\t\r" and text else text
