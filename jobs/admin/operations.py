"""Bulk operations in the admin: asked for from the list of jobs, then watched and, if need be, aborted."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
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
from jobs.admin.listing import wanted
from jobs.admin.searching import is_about_secrets
from jobs.errors import Conflict
from jobs.models import BulkOperation, Event

SEES = "jobs.view_job"
EVERYTHING = "everything"
LAMPS = {
    BulkOperation.State.RUNNING: "started",
    BulkOperation.State.ABORTED: "revoked",
    BulkOperation.State.DONE: "success",
}
VERBS = {verb.name: verb for verb in JOB_VERBS if verb.name in operations.ACTS}
AUDITED = ("bulk operation started", "bulk operation aborted", "bulk operation done")


def ask(page: ActingAdmin, verb: Verb, request: HttpRequest, number: int) -> HttpResponse | None:
    """The confirmation page of an operation, or, once it was sent back, the operation's own page."""
    text = request.GET.get("q", "")
    if is_about_secrets(text):
        # The filter is kept, for everybody to read.
        page.message_user(request, "A redacted field cannot choose jobs for a bulk operation.", messages.ERROR)
        return None
    chosen = wanted(request, text)
    is_answer = EVERYTHING in request.POST
    form = ReasonForm(request.POST if is_answer else None, needs_reason=verb.needs_reason)
    if is_answer and form.is_valid():
        how = {"actor": request.user.get_username(), "reason": form.cleaned_data["reason"]}
        return HttpResponseRedirect(page_of(operations.start(verb.name, chosen, **how)))
    samples = list(operations.candidates(chosen).order_by("-pk")[:SAMPLES])
    said = f"{number:,} jobs" if number < operations.MOST_COUNTED else f"more than {number:,} jobs"
    context = page._page(verb, request, [], form) | {
        "title": f"{verb.label} {said}?",
        "button": f"{verb.label} {said}",
        "changing": number,
        "samples": samples,
        "unseen": number - len(samples),
        "everything": EVERYTHING,
        "first": samples[0].pk if samples else "",
        "chosen": chosen.as_json(),
    }
    return TemplateResponse(request, "admin/confirm_action.html", context)


def page_of(operation: BulkOperation) -> str:
    return reverse("admin:jobs_bulkoperation_change", args=[operation.pk])


@admin.register(BulkOperation)
class BulkOperationAdmin(ReadFirstAdmin):
    list_display = ("c_name", "state_lamp", "c_done", "c_skipped", "reason", "created_by", "begun", "over")
    list_display_links = None
    list_filter = ("state", "verb")
    lede = "Acts on more jobs than one request may touch. They are rows: no restart loses one."
    empty_title = "No bulk operation yet"
    empty_text = "Filter the list of jobs, choose all that match, then cancel or retry them."

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm(SEES)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(SEES)

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
        operation = get_object_or_404(BulkOperation, pk=operation_id)
        if not request.user.has_perm(VERBS[operation.verb].permission):
            raise PermissionDenied
        try:
            operations.abort(operation.pk, actor=request.user.get_username())
        except Conflict as conflict:
            messages.error(request, f"Not aborted: {conflict}")
        return HttpResponseRedirect(page_of(operation))

    @admin.display(description="operation")
    def c_name(self, operation: BulkOperation) -> SafeString:
        text = '<a class="job-link" href="{}">{} {}</a>'
        return format_html(text, page_of(operation), operation.get_verb_display(), operation.pk)

    @admin.display(description="state")
    def state_lamp(self, operation: BulkOperation) -> SafeString:
        lamp = LAMPS[BulkOperation.State(operation.state)]
        return format_html('<span class="state state-{}">{}</span>', lamp, operation.get_state_display())

    @admin.display(description="done")
    def c_done(self, operation: BulkOperation) -> str:
        return f"{operation.done:,} of {operation.total:,}"

    @admin.display(description="left alone")
    def c_skipped(self, operation: BulkOperation) -> str:
        return f"{operation.skipped:,}"

    @admin.display(description="started")
    def begun(self, operation: BulkOperation) -> str:
        return ago(operation.created_at)

    @admin.display(description="ended")
    def over(self, operation: BulkOperation) -> str:
        return ago(operation.finished_at)


def _about(request: HttpRequest, operation: BulkOperation) -> dict[str, Any]:
    events = Event.objects.filter(at__gte=operation.created_at, verb__in=AUDITED, details__bulk_operation=operation.pk)
    handled = operation.done + operation.skipped
    return {
        "title": f"{operation.get_verb_display()} {operation.total:,} jobs",
        "operation": operation,
        "verb": VERBS[operation.verb],
        "lamp": LAMPS[BulkOperation.State(operation.state)],
        "is_going": operation.finished_at is None,
        "handled": handled,
        "percent": round(100 * handled / operation.total) if operation.total else 100,
        "skips": sorted(operation.skips.items(), key=lambda pair: -pair[1]),
        "events": events.order_by("at", "pk"),
        "may_abort": request.user.has_perm(VERBS[operation.verb].permission),
    }
