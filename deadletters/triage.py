"""The triage loop in the admin: groups of letters, one group with its replay, and the replay's own page."""

from typing import Any
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from api.confirmation import MOST_AT_ONCE, REASON_LENGTH, ReasonForm
from api.jsonfield import JsonField
from api.readable import readable_traceback
from deadletters import operations
from deadletters.drop import drop_all
from deadletters.groups import GOING, group, open_groups, operations_of
from deadletters.models import DeadLetter, ReplayItem, ReplayOperation
from deadletters.progress import Progress
from jobs import operations as bulk_operations
from jobs import registry
from jobs.admin.operations import page_of
from jobs.errors import Conflict
from jobs.models import Event
from jobs.policies import policy
from jobs.states import State

MOST_GROUPS = 100
MEMBERS, SAMPLE = 10, 20
SEES, REPLAYS = "deadletters.view_deadletter", "deadletters.replay_deadletter"
EDITS, DROPS = "deadletters.edit_payload", "deadletters.drop_deadletter"
ACTS = {"pause": operations.pause, "resume": operations.resume, "abort": operations.abort}


def pace_field() -> forms.FloatField:
    return forms.FloatField(
        min_value=0.01, max_value=1000, initial=10, label="Pace, jobs per second",
        widget=forms.NumberInput(attrs={"step": "any"}),
    )  # fmt: skip


class ReplayForm(forms.Form):
    reason = forms.CharField(
        max_length=REASON_LENGTH, widget=forms.Textarea(attrs={"rows": 2}), help_text="Kept in the audit trail."
    )
    pace = pace_field()
    patch = JsonField(
        required=False,
        label="Change every payload",
        widget=forms.Textarea(attrs={"rows": 3, "class": "mono", "placeholder": '{"currency": "EUR"}'}),
        help_text="A JSON object: its fields replace those of each payload, null removes one.",
    )

    def clean_patch(self) -> Any:
        patch = self.cleaned_data["patch"]
        if patch is not None and not isinstance(patch, dict):
            raise forms.ValidationError('This must be a JSON object, like {"currency": "EUR"}.')
        return patch or None


def groups_page(request: HttpRequest) -> HttpResponse:
    """Open letters by what went wrong."""
    _require(request, SEES)
    task, queue = request.GET.get("task") or None, request.GET.get("queue") or None
    context = {
        "title": "Dead letters",
        "groups": open_groups(limit=MOST_GROUPS, task=task, queue=queue),
        "most": MOST_GROUPS,
        "filters": [_menu("queue", settings.JOB_QUEUES, request), _menu("task", sorted(registry.tasks()), request)],
        "is_filtered": bool(task or queue),
    }
    return _page(request, "admin/deadletters/groups.html", context)


def group_page(request: HttpRequest, fingerprint: str) -> HttpResponse:
    """One group: what it is, its letters, and its replay."""
    _require(request, SEES)
    found, past = group(fingerprint), operations_of(fingerprint)
    if found is None and not ReplayItem.objects.filter(operation__in=past).exists():
        messages.info(request, "No letter of this group is open any more.")
        return HttpResponseRedirect(reverse("admin:deadletters_groups"))
    going = next((operation for operation in past if operation.state in GOING), None)
    form = ReplayForm(request.POST or None)
    preview = None
    if request.method == "POST" and going is None:
        _require(request, REPLAYS)
        if form.is_valid():
            if "preview" not in request.POST:
                return _start(request, fingerprint, form)
            preview = _preview(fingerprint, form.cleaned_data)
    return _page(request, "admin/deadletters/group.html", _about(request, fingerprint, found, past, going) | {
        "form": form, "preview": preview,
    })  # fmt: skip


def drop_page(request: HttpRequest, fingerprint: str) -> HttpResponse:
    """Asks for a reason, then drops the letters of a group: at once, or in the background when they are many."""
    _require(request, DROPS)
    form = ReasonForm(request.POST or None, needs_reason=True)
    if request.method == "POST" and form.is_valid():
        return _drop(request, fingerprint, form.cleaned_data["reason"])
    context = {"title": "Drop group", "group": group(fingerprint), "form": form, "most": MOST_AT_ONCE}
    if context["group"] is None:
        raise Http404("No letter of this group is open.")
    return _page(request, "admin/deadletters/drop_group.html", context)


def operation_page(request: HttpRequest, operation: ReplayOperation) -> HttpResponse:
    """A replay: what it is about, how far it is, and everything that was done to it."""
    skipped = operation.items.filter(state=ReplayItem.State.SKIPPED).order_by().values_list("note")
    verbs = ("replay started", "replay paused", "replay resumed", "replay aborted")
    events = Event.objects.filter(at__gte=operation.created_at, verb__in=verbs, details__operation=operation.pk)
    context = {
        "title": f"Replay {operation.pk}",
        "progress": Progress(operation),
        "may_replay": request.user.has_perm(REPLAYS),
        "skips": skipped.annotate(count=Count("pk")).order_by("-count")[:SAMPLE],
        "events": events.order_by("at")[:MOST_GROUPS],
        "fingerprint": operation.filter.get("fingerprint"),
    }
    return _page(request, "admin/deadletters/operation.html", context)


@require_POST
def operation_act(request: HttpRequest, operation_id: int, name: str) -> HttpResponse:
    """Pause, resume or abort a replay."""
    _require(request, REPLAYS)
    operation = get_object_or_404(ReplayOperation, pk=operation_id)
    if name not in ACTS:
        raise Http404(f"A replay cannot {name}.")
    try:
        ACTS[name](operation.pk, actor=request.user.get_username())
    except Conflict as conflict:
        messages.error(request, f"Not done: {conflict}")
    back = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()})
    return HttpResponseRedirect(
        back if safe else reverse("admin:deadletters_replayoperation_change", args=[operation.pk])
    )


def _about(
    request: HttpRequest, fingerprint: str, found: Any, past: list[ReplayOperation], going: Any
) -> dict[str, Any]:
    shown = going or (past[0] if past else None)
    letter = found.sample if found else ReplayItem.objects.filter(operation__in=past).order_by("-pk")[0].letter
    letters = DeadLetter.objects.open().matching(fingerprint=fingerprint)
    stuck = letters.exclude(job__state=State.FAILURE).count() if found else 0
    return {
        "title": found.kind if found else "Resolved group",
        "group": found,
        "letter": letter,
        "traceback": readable_traceback(letter.job.traceback or letter.reason),
        "members": letters.order_by("-created_at", "-id")[:MEMBERS],
        "fingerprint": fingerprint,
        "progress": Progress(shown) if shown else None,
        "going": going,
        "past": past,
        "willing": (found.count - stuck) if found else 0,
        "stuck": stuck,
        "tries": policy(letter.task).max_retries + 1,
        "may_replay": request.user.has_perm(REPLAYS),
        "may_edit": request.user.has_perm(EDITS),
        "may_drop": request.user.has_perm(DROPS),
    }


def _start(request: HttpRequest, fingerprint: str, form: ReplayForm) -> HttpResponse:
    data = form.cleaned_data
    if data["patch"] is not None:
        _require(request, EDITS)
    operations.start(
        DeadLetter.objects.matching(fingerprint=fingerprint),
        filter={"fingerprint": fingerprint},
        actor=request.user.get_username(),
        reason=data["reason"],
        pace=data["pace"],
        patch=data["patch"],
    )
    return HttpResponseRedirect(reverse("admin:deadletters_group", args=[fingerprint]))


def _drop(request: HttpRequest, fingerprint: str, reason: str) -> HttpResponse:
    how = {"actor": request.user.get_username(), "reason": reason}
    letters = list(DeadLetter.objects.open().matching(fingerprint=fingerprint).order_by("pk")[: MOST_AT_ONCE + 1])
    if len(letters) > MOST_AT_ONCE:
        return HttpResponseRedirect(page_of(bulk_operations.start("drop", {"fingerprint": fingerprint}, **how)))
    dropped = drop_all(letters, **how)
    messages.success(request, f"Dropped {len(dropped.done):,} letters.")
    return HttpResponseRedirect(reverse("admin:deadletters_groups"))


def _preview(fingerprint: str, data: dict[str, Any]) -> dict[str, Any]:
    """What a replay would do: how many, how long, and which of the first would be refused."""
    letters = DeadLetter.objects.open().matching(fingerprint=fingerprint)
    sample = list(letters.select_related("job").order_by("pk")[:SAMPLE])
    refused = [(letter, why) for letter in sample if (why := operations.why_not(letter, data["patch"]))]
    count = letters.count()
    return {"count": count, "seconds": count / data["pace"], "looked": len(sample), "refused": refused}


def _menu(name: str, values: Any, request: HttpRequest) -> dict[str, Any]:
    """What admin/filter.html shows."""
    rest = {key: value for key, value in request.GET.items() if key != name}
    chosen = request.GET.get(name, "")
    choices = [("All", ""), *((value, value) for value in values)]
    return {
        "title": name,
        "choices": [
            {"display": label, "selected": value == chosen, "query_string": "?" + _query(rest, name, value)}
            for label, value in choices
        ],
    }


def _query(rest: dict[str, Any], name: str, value: str) -> str:
    return urlencode(rest | ({name: value} if value else {}))


def _page(request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    everywhere = admin.site.each_context(request) | {"opts": DeadLetter._meta}
    return TemplateResponse(request, template, everywhere | context)


def _require(request: HttpRequest, permission: str) -> None:
    if not request.user.has_perm(permission):
        raise PermissionDenied
