"""Dead letters in the admin: read, group, replay, drop, purge."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.models import DELETION
from django.db.models import Count, Max, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from api.confirmation import ActingAdmin, Verb, row_by_row
from api.masking import masked
from api.readfirst import ReadFirstAdmin, ReadFirstInline, ago, preformatted
from deadletters import drop, purge, replay, resolution
from deadletters.models import DeadLetter, ReplayItem, ReplayOperation
from jobs.admin.history import OfJob
from jobs.admin.job import HEAVY, JobAdmin
from jobs.admin.searching import QueueFilter, TaskFilter, found
from jobs.models import Job
from jobs.policies import policy

GROUPS_SHOWN = 20
REASON_SHOWN = 100
VERBS = (
    Verb(
        name="replay",
        label="Replay",
        done="Replayed",
        permission="deadletters.replay_deadletter",
        consequence="The jobs run again from the start, under their own ids and idempotency keys.",
        act=replay.replay_all,
        refusals=row_by_row(replay.why_not),
    ),
    Verb(
        name="drop",
        label="Drop",
        done="Dropped",
        permission="deadletters.drop_deadletter",
        consequence="Dropped jobs never run again and cannot be brought back. Payload and history stay readable.",
        act=drop.drop_all,
        refusals=row_by_row(resolution.why_not),
        is_destructive=True,
    ),
    Verb(
        name="purge",
        label="Purge",
        done="Purged",
        permission="deadletters.purge_deadletter",
        consequence="Resolved letters are deleted, and with them the history and keys of jobs that failed for good.",
        act=purge.purge,
        refusals=row_by_row(purge.why_not),
        is_destructive=True,
        log_as=DELETION,
    ),
)


class GroupFilter(admin.SimpleListFilter):
    """Open letters of one problem: the same kind of error, in the same words, at the same place."""

    title = "group"
    parameter_name = "fingerprint"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        by_size = (
            DeadLetter.objects.open().order_by().values("fingerprint").annotate(size=Count("pk"), newest=Max("pk"))
        )
        groups = list(by_size.order_by("-size", "-newest")[:GROUPS_SHOWN])
        samples = DeadLetter.objects.in_bulk([group["newest"] for group in groups])
        said = {
            group["fingerprint"]: _brief(samples[group["newest"]]) for group in groups if group["newest"] in samples
        }
        return [(group["fingerprint"], f"{group['size']:,} × {said.get(group['fingerprint'], '')}") for group in groups]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(resolution=None, fingerprint=self.value()) if self.value() else queryset


class ResolutionFilter(admin.SimpleListFilter):
    title = parameter_name = "resolution"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("OPEN", "Open"), *DeadLetter.Resolution.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if self.value() == "OPEN":
            return queryset.filter(resolution=None)
        return queryset.filter(resolution=self.value()) if self.value() else queryset


@admin.register(DeadLetter)
class DeadLetterAdmin(OfJob, ActingAdmin):
    list_display = ("letter", "task", "queue", "cause", "brief", "attempt", "created", "status")
    list_filter = (ResolutionFilter, "cause", TaskFilter, QueueFilter, GroupFilter)
    list_select_related = ("job",)
    search_fields = ("pk",)
    search_help_text = "A job's id or its beginning, its idempotency key, payload.field:value, or tag:name."
    ordering = ("-created_at", "-id")
    verbs = VERBS
    fieldsets = [
        (None, {"fields": ["job_link", "task", "queue", "attempt", "cause", "reason", "created_at"]}),
        ("Payload", {"fields": ["payload_text"]}),
        ("Where it ended", {"fields": ["worker_name", "signal", "exit_code", "fingerprint"]}),
        ("Resolution", {"fields": ["resolution", "resolved_at", "resolved_by", "resolved_reason", "operation"]}),
        ("Edited payload", {"fields": ["before_text", "after_text"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).defer(*(f"job__{name}" for name in HEAVY))

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> DeadLetter | None:
        """The letter, with what of its payload this person may see."""
        letter = super().get_object(request, object_id, from_field)
        if letter is not None:
            may_see = request.user.has_perm("jobs.view_payload")
            letter.hidden = () if may_see else policy(letter.task).redacted
        return letter

    def get_search_results(self, request: HttpRequest, queryset: QuerySet, search_term: str) -> tuple[QuerySet, bool]:
        if not search_term.strip():
            return queryset, False
        return queryset.filter(job__in=found(Job.objects.all(), search_term).values("pk")), False

    @admin.display(description="letter")
    def letter(self, letter: DeadLetter) -> str:
        return str(letter.pk)

    @admin.display(description="reason")
    def brief(self, letter: DeadLetter) -> str:
        return _brief(letter)

    @admin.display(description="created")
    def created(self, letter: DeadLetter) -> str:
        return ago(letter.created_at)

    def status(self, letter: DeadLetter) -> str:
        return "needs a decision" if letter.is_open else f"{letter.get_resolution_display()} by {letter.resolved_by}"

    @admin.display(description="payload")
    def payload_text(self, letter: Any) -> str:
        return preformatted(masked(letter.job.payload, letter.hidden))

    @admin.display(description="before")
    def before_text(self, letter: Any) -> str:
        return preformatted(masked(letter.payload_before, letter.hidden))

    @admin.display(description="after")
    def after_text(self, letter: Any) -> str:
        return preformatted(masked(letter.payload_after, letter.hidden))


@admin.register(ReplayOperation)
class ReplayOperationAdmin(ReadFirstAdmin):
    list_display = ("id", "state", "total", "done", "skipped", "pace", "created_by", "created_at", "finished_at")
    list_filter = ("state",)


@admin.register(ReplayItem)
class ReplayItemAdmin(ReadFirstAdmin):
    list_display = ("id", "operation", "letter_id", "state", "note", "at")
    list_filter = ("state",)
    list_select_related = ("operation",)
    ordering = ("-pk",)


class LetterInline(ReadFirstInline):
    model = DeadLetter
    ordering = ("pk",)
    fields = ("letter_link", "cause", "reason", "resolution", "resolved_by", "resolved_reason")
    readonly_fields = fields

    @admin.display(description="letter")
    def letter_link(self, letter: DeadLetter) -> SafeString:
        page = reverse("admin:deadletters_deadletter_change", args=[letter.pk])
        return format_html('<a href="{}">{}</a>', page, letter.pk)


# The page of a job shows its letters, but jobs must not know that there are any.
JobAdmin.inlines = [*JobAdmin.inlines, LetterInline]


def _brief(letter: DeadLetter) -> str:
    first_line = letter.reason.splitlines()[0] if letter.reason else ""
    return first_line if len(first_line) <= REASON_SHOWN else f"{first_line[:REASON_SHOWN]}…"
