"""What happened to jobs: attempts, events, effects; and what they are found by: keys and labels."""

from typing import Any

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from api.masking import masked
from api.readfirst import ReadFirstAdmin, ago, duration, preformatted
from jobs.models import Attempt, Effect, Event, IdempotencyKey, JobLabel
from jobs.policies import policy


class OfJob:
    """A column that links to the job, without reading it."""

    @admin.display(description="job")
    def job_link(self, row: Any) -> str | SafeString:
        if row.job_id is None:
            return ""
        page = reverse("admin:jobs_job_change", args=[row.job_id])
        return format_html('<a class="mono" href="{0}" title="{1}">{2}</a>', page, row.job_id, str(row.job_id)[:13])


class WhenFilter(admin.DateFieldListFilter):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.title = "when"


class AttemptColumns(OfJob):
    @admin.display(description="traceback")
    def traceback_text(self, attempt: Attempt) -> str:
        return preformatted(attempt.traceback)

    @admin.display(description="waited")
    def waited(self, attempt: Attempt) -> str:
        both = attempt.started_at and attempt.due_at
        return duration(attempt.started_at - attempt.due_at) if both else ""  # type: ignore[operator]

    @admin.display(description="ran")
    def ran(self, attempt: Attempt) -> str:
        return duration(attempt.ended_at - attempt.started_at) if attempt.started_at else ""

    @admin.display(description="ended")
    def ended(self, attempt: Attempt) -> str:
        return ago(attempt.ended_at)


class EventColumns(OfJob):
    @admin.display(description="when")
    def when(self, event: Event) -> str:
        return ago(event.at)

    @admin.display(description="details")
    def details_text(self, event: Event) -> str:
        return preformatted(event.details)


class EffectColumns(OfJob):
    @admin.display(description="outcome")
    def outcome_text(self, effect: Effect) -> str:
        return preformatted(masked(effect.outcome, policy(effect.job.task).redacted))

    @admin.display(description="when")
    def when(self, effect: Effect) -> str:
        return ago(effect.at)


@admin.register(Attempt)
class AttemptAdmin(AttemptColumns, ReadFirstAdmin):
    list_display = ("number", "outcome", "error_code", "job_link", "waited", "ran", "worker_name", "ended")
    list_filter = ("outcome", "ended_at")
    ordering = ("-ended_at", "-pk")
    fields = (
        ("job_link", "number", "outcome"),
        ("due_at", "started_at", "ended_at"),
        ("worker_name", "worker_id", "child_pid", "claim_token"),
        ("error_code", "fingerprint"),
        "error",
        "traceback_text",
        ("signal", "exit_code", "delay"),
        ("fenced_at", "fenced_outcome"),
    )


@admin.register(Event)
class EventAdmin(EventColumns, ReadFirstAdmin):
    list_display = ("verb", "when", "actor", "reason", "about", "job_link")
    list_title = "Audit trail"
    lede = "Who did what, when and why. Nothing here is ever edited."
    list_filter = (("at", WhenFilter),)
    ordering = ("-at", "-pk")
    fields = ("verb", "at", "actor", "reason", "job_link", "details_text")

    @admin.display(description="about")
    def about(self, event: Event) -> str:
        return ", ".join(f"{name} {value}" for name, value in event.details.items())[:100]


@admin.register(Effect)
class EffectAdmin(EffectColumns, ReadFirstAdmin):
    list_display = ("name", "job_link", "when")
    list_select_related = ("job",)
    ordering = ("-pk",)
    fields = ("name", "job_link", "at", "outcome_text")


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(OfJob, ReadFirstAdmin):
    list_display = ("key", "scope", "job_link", "made", "expires")
    search_fields = ("key__exact",)
    search_help_text = "The whole key."
    ordering = ("-pk",)
    fields = ("key", "scope", "job_link", "created_at", "expires_at")

    @admin.display(description="created")
    def made(self, key: IdempotencyKey) -> str:
        return ago(key.created_at)

    @admin.display(description="expires")
    def expires(self, key: IdempotencyKey) -> str:
        return ago(key.expires_at)


@admin.register(JobLabel)
class JobLabelAdmin(OfJob, ReadFirstAdmin):
    list_display = ("label", "job_link")
    search_fields = ("label__exact",)
    search_help_text = "The whole label, like tag:x or user_id:usr_1."
    ordering = ("-pk",)
    fields = ("label", "job_link")
