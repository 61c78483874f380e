"""Bulk operations in the admin: asked for from a list, then watched and, if need be, aborted."""

from collections.abc import Mapping
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from api.confirmation import SAMPLES, ActingAdmin, ReasonForm, Verb
from api.readfirst import ReadFirstAdmin, ago
from jobs import operations
from jobs.admin.acts import JOB_VERBS
from jobs.admin.searching import is_about_secrets
from jobs.errors import Conflict
from jobs.models import BulkOperation, Event

EVERYTHING = "everything"
LAMPS: dict[str, str] = {
    BulkOperation.State.RUNNING: "started",
    BulkOperation.State.ABORTED: "revoked",
    BulkOperation.State.DONE: "success",
}
# Apps above this one add theirs.
VERBS = {verb.name: verb for verb in JOB_VERBS}
AUDITED = ("bulk operation started", "bulk operation aborted", "bulk operation done")


class VerbFilter(admin.SimpleListFilter):
    title = parameter_name = "verb"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(verb.name, verb.label) for verb in VERBS.values()]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(verb=self.value()) if self.value() else queryset


def means_everything(request: HttpRequest) -> bool:
    """Whether an act was chosen for all that match, and not for the rows that a confirmation page listed."""
    return request.POST.get("select_across") == "1" and "ids" not in request.POST


def ask(page: ActingAdmin, verb: Verb, request: HttpRequest, chosen: dict[str, Any]) -> HttpResponse | None:
    """The confirmation page of an operation, or, once it was sent back, the operation's own page."""
    if is_refused(page, request):
        return None
    form = ReasonForm(request.POST if EVERYTHING in request.POST else None, needs_reason=verb.needs_reason)
    if form.is_valid():
        how = {"actor": request.user.get_username(), "reason": form.cleaned_data["reason"]}
        return HttpResponseRedirect(page_of(operations.start(verb.name, chosen, **how)))
    act = operations.ACTS[verb.name]
    rows = act.candidates(chosen)
    return everything_page(page, verb, request, form, rows=rows, among=act.among, chosen=chosen)


def is_refused(page: ActingAdmin, request: HttpRequest) -> bool:
    """An operation keeps its filter, for everybody to read."""
    is_secret = is_about_secrets(request.GET.get("q", ""))
    if is_secret:
        said = f"A redacted field cannot choose {page.opts.verbose_name_plural} for a bulk operation."
        page.message_user(request, said, messages.ERROR)
    return is_secret


def everything_page(
    page: ActingAdmin, verb: Verb, request: HttpRequest, form: Any, *, rows: QuerySet, among: str, chosen: Any
) -> HttpResponse:
    """Asks before something is done to everything that matches."""
    number, samples = rows[: operations.MOST_COUNTED].count(), list(rows.order_by("-pk")[:SAMPLES])
    more = "more than " if number == operations.MOST_COUNTED else ""
    title = f"{verb.label} {more}{number:,} {page.opts.verbose_name_plural}"
    context = page._page(verb, request, [], form) | {
        "title": f"{title}?",
        "button": title,
        "changing": number,
        "samples": samples,
        "unseen": number - len(samples),
        "everything": EVERYTHING,
        "among": among,
        "first": samples[0].pk if samples else "",
        "chosen": chosen,
    }
    return TemplateResponse(request, "admin/confirm_action.html", context)


def page_of(operation: BulkOperation) -> str:
    return reverse("admin:jobs_bulkoperation_change", args=[operation.pk])


class OperationColumns:
    """What the lists of long operations have in common, whoever's they are."""

    lamps: Mapping[str, str]

    @admin.display(description="state")
    def state_lamp(self, operation: Any) -> SafeString:
        lamp = self.lamps[operation.state]
        return format_html('<span class="state state-{}">{}</span>', lamp, operation.get_state_display())

    @admin.display(description="done")
    def c_done(self, operation: Any) -> str:
        return f"{operation.done:,} of {operation.total:,}"

    @admin.display(description="left alone")
    def c_skipped(self, operation: Any) -> str:
        return f"{operation.skipped:,}"

    @admin.display(description="started")
    def begun(self, operation: Any) -> str:
        return ago(operation.created_at)

    @admin.display(description="ended")
    def over(self, operation: Any) -> str:
        return ago(operation.finished_at)


@admin.register(BulkOperation)
class BulkOperationAdmin(OperationColumns, ReadFirstAdmin):
    lamps = LAMPS
    list_display = ("c_name", "state_lamp", "c_done", "c_skipped", "reason", "created_by", "begun", "over")
    list_display_links = None
    list_filter = ("state", VerbFilter)
    lede = "Acts on more jobs or dead letters than one request may touch. Each is a row: no restart loses one."
    empty_title = "No bulk operation yet"
    empty_text = "Filter the list of jobs or of dead letters, choose all that match, then say what to do with them."

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(_seen(request))

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(_seen(request))

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).filter(verb__in=_seen(request))

    def get_urls(self) -> list[URLPattern]:
        abort = self.admin_site.admin_view(self.abort)
        return [path("<int:operation_id>/abort/", abort, name="jobs_operation_abort"), *super().get_urls()]

    def change_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        operation = self.get_object(request, object_id)
        if request.method != "GET" or not self.has_view_permission(request):
            raise PermissionDenied
        if operation is None:
            raise Http404(f"There is no bulk operation {object_id}.")
        context = self.admin_site.each_context(request) | _about(request, operation) | {"opts": self.opts}
        return TemplateResponse(request, "admin/jobs/operation.html", context)

    @method_decorator(require_POST)
    def abort(self, request: HttpRequest, operation_id: int) -> HttpResponse:
        """Leave the rest alone; who may begin such an operation may end it."""
        operation = get_object_or_404(self.get_queryset(request), pk=operation_id)
        if not request.user.has_perm(VERBS[operation.verb].permission):
            raise PermissionDenied
        try:
            operations.abort(operation.pk, actor=request.user.get_username())
        except Conflict as conflict:
            messages.error(request, f"Not aborted: {conflict}")
        return HttpResponseRedirect(page_of(operation))

    @admin.display(description="operation")
    def c_name(self, operation: BulkOperation) -> SafeString:
        rows = operations.ACTS[operation.verb].rows.model._meta.verbose_name_plural
        text = '<a class="job-link" href="{}">#{} {} {}</a>'
        return format_html(text, page_of(operation), operation.pk, VERBS[operation.verb].label, rows)


def _seen(request: HttpRequest) -> list[str]:
    """The verbs whose operations this person sees: those for rows whose lists they see."""
    models = {verb: act.rows.model._meta for verb, act in operations.ACTS.items()}
    may = request.user.has_perm
    return [verb for verb, meta in models.items() if may(f"{meta.app_label}.view_{meta.model_name}")]


def _about(request: HttpRequest, operation: BulkOperation) -> dict[str, Any]:
    events = Event.objects.filter(at__gte=operation.created_at, verb__in=AUDITED, details__bulk_operation=operation.pk)
    handled = operation.done + operation.skipped
    verb, act = VERBS[operation.verb], operations.ACTS[operation.verb]
    rows = act.rows.model._meta.verbose_name_plural
    return {
        "title": f"{verb.label} {operation.total:,} {rows}",
        "operation": operation,
        "verb": verb,
        "among": act.among,
        "rows": rows,
        "lamp": LAMPS[operation.state],
        "is_going": operation.finished_at is None,
        "handled": handled,
        "percent": round(100 * handled / operation.total) if operation.total else 100,
        "skips": sorted(operation.skips.items(), key=lambda pair: -pair[1]),
        "events": events.order_by("at", "pk"),
        "may_abort": request.user.has_perm(verb.permission),
    }
