"""Dead letters in the admin: read, group, replay, drop, purge."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.models import DELETION
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from api.confirmation import MOST_AT_ONCE, ActingAdmin, Verb, row_by_row
from api.readfirst import ReadFirstAdmin, ago
from deadletters import drop, purge, replay, resolution, triage
from deadletters.asking import ask_about_everything
from deadletters.bulk import OPEN
from deadletters.editing import letter_page
from deadletters.models import DeadLetter, ReplayItem, ReplayOperation
from deadletters.progress import LAMPS
from jobs.admin.job import HEAVY, LINKS
from jobs.admin.operations import VERBS as OPERATION_VERBS
from jobs.admin.operations import OperationColumns, means_everything
from jobs.admin.searching import QueueFilter, TaskFilter, check_search, found
from jobs.models import Job
from jobs.operations import ACTS

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
    """Letters of one problem; the groups' own page leads here."""

    title = "group"
    parameter_name = "fingerprint"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        chosen = request.GET.get(self.parameter_name)
        return [(chosen, chosen)] if chosen else []

    def has_output(self) -> bool:
        return bool(self.lookup_choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(fingerprint=self.value()) if self.value() else queryset


class ResolutionFilter(admin.SimpleListFilter):
    title = parameter_name = "resolution"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(OPEN, "Open"), *DeadLetter.Resolution.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if self.value() == OPEN:
            return queryset.filter(resolution=None)
        return queryset.filter(resolution=self.value()) if self.value() else queryset


@admin.register(DeadLetter)
class DeadLetterAdmin(ActingAdmin):
    list_display = ("status", "c_error", "queue", "cause", "attempt", "created")
    list_display_links = None
    list_filter = (ResolutionFilter, "cause", TaskFilter, QueueFilter, GroupFilter)
    list_select_related = ("job",)
    search_fields = ("pk",)
    search_help_text = "A job's id or its beginning, an idempotency key, a searchable payload.field:value, or tag:name."
    ordering = ("-created_at", "-id")
    verbs = VERBS
    lede = "Every letter by itself. Their groups, by what went wrong, are the better place to decide."
    empty_title = "No dead letters"
    empty_text = "Every job has succeeded, is waiting, or will be retried."

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own: list[URLPattern] = [
            path("groups/", view(triage.groups_page), name="deadletters_groups"),
            path("groups/<str:fingerprint>/", view(triage.group_page), name="deadletters_group"),
            path("groups/<str:fingerprint>/drop/", view(triage.drop_page), name="deadletters_drop_group"),
        ]
        return own + super().get_urls()

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        resolved = request.resolver_match
        is_list = resolved is not None and resolved.url_name == "deadletters_deadletter_changelist"
        letters = super().get_queryset(request).select_related("job")
        return letters.defer(*(f"job__{name}" for name in HEAVY)) if is_list else letters

    def change_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        letter = self.get_object(request, object_id)
        if letter is None:
            raise Http404(f"There is no letter {object_id}.")
        if not self.has_view_permission(request, letter):
            raise PermissionDenied
        return letter_page(request, letter, self.buttons(request, letter))

    def get_search_results(self, request: HttpRequest, queryset: QuerySet, search_term: str) -> tuple[QuerySet, bool]:
        if not search_term.strip():
            return queryset, False
        check_search(self, request, search_term, otherwise="no letter is found by it")
        return queryset.filter(job__in=found(Job.objects.all(), search_term).values("pk")), False

    def confirm(self, verb: Verb, request: HttpRequest, selected: QuerySet) -> HttpResponse | None:
        """Everything that matches is an operation when it is more than one request may touch."""
        if not means_everything(request):
            return super().confirm(verb, request, selected)
        rows = selected.filter(resolution__isnull=verb.name != "purge")
        if rows[: MOST_AT_ONCE + 1].count() > MOST_AT_ONCE:
            return ask_about_everything(self, verb, request)
        return super().confirm(verb, request, rows)

    @admin.display(description="error")
    def c_error(self, letter: DeadLetter) -> SafeString:
        page = reverse("admin:deadletters_deadletter_change", args=[letter.pk])
        text = '<a class="job-link" href="{}">{}</a><span class="hint">{}</span>'
        return format_html(text, page, letter.task, _brief(letter))

    @admin.display(description="created")
    def created(self, letter: DeadLetter) -> str:
        return ago(letter.created_at)

    def status(self, letter: DeadLetter) -> str | SafeString:
        if letter.is_open:
            return format_html('<span class="state state-failure">{}</span>', "Needs a decision")
        return f"{letter.get_resolution_display()} by {letter.resolved_by}"


@admin.register(ReplayOperation)
class ReplayOperationAdmin(OperationColumns, ReadFirstAdmin):
    lamps = LAMPS
    list_display = ("c_name", "state_lamp", "c_done", "c_skipped", "pace", "reason", "created_by", "begun", "over")
    list_display_links = None
    list_filter = ("state",)
    lede = "Replays of many letters, each at its own pace. They are rows: no restart loses one."
    empty_title = "No group has been replayed yet"
    empty_text = "Open a group of dead letters, put its cause right, then replay it."

    def get_urls(self) -> list[URLPattern]:
        act = self.admin_site.admin_view(triage.operation_act)
        return [path("<int:operation_id>/act/<slug:name>/", act, name="deadletters_operation_act"), *super().get_urls()]

    def change_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        operation = self.get_object(request, object_id)
        if operation is None:
            raise Http404(f"There is no replay {object_id}.")
        if request.method != "GET" or not self.has_view_permission(request, operation):
            raise PermissionDenied
        return triage.operation_page(request, operation)

    @admin.display(description="replay")
    def c_name(self, operation: ReplayOperation) -> SafeString:
        page = reverse("admin:deadletters_replayoperation_change", args=[operation.pk])
        return format_html('<a class="job-link" href="{}">{}</a>', page, f"Replay {operation.pk}")


@admin.register(ReplayItem)
class ReplayItemAdmin(ReadFirstAdmin):
    list_display = ("id", "operation", "letter_id", "state", "note", "at")
    list_filter = ("state",)
    list_select_related = ("operation",)
    ordering = ("-pk",)


def _letters(job: Job) -> list[tuple[str, str, str]]:
    """What the page of a job says about its letters; jobs must not know that there are any."""
    found = DeadLetter.objects.filter(job=job).order_by("pk")
    return [
        ("Dead letter", reverse("admin:deadletters_deadletter_change", args=[each.pk]), _fate(each)) for each in found
    ]


def _fate(letter: DeadLetter) -> str:
    return (
        "needs a decision" if letter.is_open else f"{letter.get_resolution_display()} by {letter.resolved_by}".lower()
    )


LINKS.append(_letters)
OPERATION_VERBS.update({verb.name: verb for verb in VERBS if verb.name in ACTS})


def _brief(letter: DeadLetter) -> str:
    first_line = letter.reason.splitlines()[0] if letter.reason else ""
    return first_line if len(first_line) <= REASON_SHOWN else f"{first_line[:REASON_SHOWN]}…"
