"""Jobs in the admin: a list that stays fast, a page that tells the whole story of one."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from api.confirmation import ActingAdmin
from api.masking import masked
from api.readfirst import ago, duration, preformatted
from jobs.admin.acts import JOB_VERBS
from jobs.admin.history import AttemptInline, EffectInline, EventInline
from jobs.admin.searching import SEARCH_HELP, QueueFilter, TaskFilter, found, unsearchable
from jobs.models import Job
from jobs.policies import policy
from jobs.states import WAITING, State

# Columns the list never shows, which may be large.
HEAVY = ("payload", "progress", "result", "error", "traceback", "trace")


@admin.register(Job)
class JobAdmin(ActingAdmin):
    list_display = ("state_lamp", "task", "id", "queue", "tries", "waited", "ran", "created")
    list_display_links = ("id",)
    list_filter = ("state", QueueFilter, TaskFilter, "created_at")
    # Only says that there is a search box; what it finds is in jobs.admin.searching.
    search_fields = ("pk",)
    search_help_text = SEARCH_HELP
    ordering = ("-created_at", "-id")
    verbs = JOB_VERBS
    inlines = [AttemptInline, EventInline, EffectInline]
    fieldsets = [
        (None, {"fields": ["state_lamp", "task", "id", "queue", "key_text", "tags", "tries", "waited", "ran"]}),
        ("Payload and result", {"fields": ["payload_text", "progress_text", "result_text"]}),
        ("Error", {"fields": ["error_code", "error", "traceback_text", "fingerprint"]}),
        ("Times", {"fields": ["created_at", "run_at", "started_at", "finished_at", "expires_at"]}),
        ("Limits", {"fields": ["retries", "max_retries", "deaths", "max_deaths", "callback_url", "schedule"]}),
        (
            "Machinery",
            {
                "classes": ["collapse"],
                "fields": [
                    "attempt", "dispatched_at", "dispatch_no", "worker_id", "child_pid", "claim_token",
                    "cancel_requested_at", "trace",
                ],
            },
        ),
    ]  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        resolved = request.resolver_match
        is_list = resolved is not None and resolved.url_name == "jobs_job_changelist"
        jobs = super().get_queryset(request)
        return jobs.defer(*HEAVY) if is_list else jobs.select_related("key")

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Job | None:
        """The job, with what of it this person may see."""
        job = super().get_object(request, object_id, from_field)
        if job is not None:
            may_see = request.user.has_perm("jobs.view_payload")
            job.hidden = () if may_see else policy(job.task).redacted
        return job

    def get_search_results(self, request: HttpRequest, queryset: QuerySet, search_term: str) -> tuple[QuerySet, bool]:
        if not search_term.strip():
            return queryset, False
        if wrong := unsearchable(search_term):
            self.message_user(request, wrong, messages.WARNING)
        return found(queryset, search_term), False

    @admin.display(description="state")
    def state_lamp(self, job: Job) -> SafeString:
        return format_html('<span class="state state-{}">{}</span>', job.state.lower(), job.get_state_display())

    @admin.display(description="attempt")
    def tries(self, job: Job) -> str:
        """Tries since the job was submitted or replayed, of those it has; deaths are counted apart."""
        begun = job.retries if job.state in WAITING else job.retries + 1
        died = f", died {job.deaths} of {job.max_deaths} times" if job.deaths else ""
        return f"{begun} / {job.max_retries + 1}{died}"

    @admin.display(description="waited")
    def waited(self, job: Job) -> str:
        if job.state in WAITING:
            passed = timezone.now() - job.run_at
            return duration(passed) if passed.total_seconds() > 0 else f"due in {duration(-passed)}"
        if job.started_at is None or job.started_at < job.run_at:
            return ""
        return duration(job.started_at - job.run_at)

    @admin.display(description="ran")
    def ran(self, job: Job) -> str:
        # A revoked job may have waited between its last run and its end.
        if job.started_at is None or job.state in (*WAITING, State.REVOKED):
            return ""
        return duration((job.finished_at or timezone.now()) - job.started_at)

    @admin.display(description="created")
    def created(self, job: Job) -> str:
        return ago(job.created_at)

    @admin.display(description="idempotency key")
    def key_text(self, job: Job) -> str:
        return job.idempotency_key

    @admin.display(description="payload")
    def payload_text(self, job: Any) -> str:
        return preformatted(masked(job.payload, job.hidden))

    @admin.display(description="progress")
    def progress_text(self, job: Any) -> str:
        return preformatted(job.progress)

    @admin.display(description="result")
    def result_text(self, job: Any) -> str:
        return preformatted(masked(job.result, job.hidden))

    @admin.display(description="traceback")
    def traceback_text(self, job: Job) -> str:
        return preformatted(job.traceback)
