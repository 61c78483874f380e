"""The page of one letter: what went wrong, and its payload, which may be put right before it runs again."""

import difflib
import json
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from api.confirmation import REASON_LENGTH
from api.masking import masked
from api.readable import readable_json, readable_traceback
from api.unmasking import unmasked
from deadletters import replay
from deadletters.models import DeadLetter
from deadletters.resolution import REFUSALS
from jobs import registry
from jobs.drafting import draft
from jobs.errors import InvalidJob
from jobs.policies import policy


class EditForm(forms.Form):
    payload = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 10, "class": "mono", "spellcheck": "false"}),
        help_text="Checked against the task's schema. What is shown as •••• stays as it is.",
    )
    reason = forms.CharField(max_length=REASON_LENGTH, widget=forms.Textarea(attrs={"rows": 2}))

    def clean_payload(self) -> Any:
        try:
            payload = json.loads(self.cleaned_data["payload"])
        except ValueError as error:
            raise forms.ValidationError(f"This is not JSON: {error}") from None
        if not isinstance(payload, dict):
            raise forms.ValidationError("This must be a JSON object of arguments by name.")
        return payload


def letter_page(request: HttpRequest, letter: DeadLetter, buttons: list[Any]) -> HttpResponse:
    """Show the letter; with POST, show what an edit changes, or replay with it."""
    hidden = () if request.user.has_perm("jobs.view_payload") else policy(letter.task).redacted
    shown = masked(letter.job.payload, hidden)
    may_edit = _may_edit(request, letter)
    form = EditForm(request.POST or None, initial={"payload": _text(shown)}) if may_edit else None
    difference: list[str] | None = None
    if request.method == "POST":
        if form is None or not {"preview", "replay"} & set(request.POST):
            raise PermissionDenied
        if form.is_valid() and (payload := _checked(letter, form)) is not None:
            if "preview" not in request.POST:
                return _replay(request, letter, form, payload)
            difference = changes(shown, masked(payload, hidden))
    context = admin.site.each_context(request) | {
        "title": f"Letter {letter.pk}",
        "opts": DeadLetter._meta,
        "letter": letter,
        "form": form,
        "difference": difference,
        "buttons": buttons,
        "payload": readable_json(shown),
        "traceback": readable_traceback(letter.job.traceback or letter.reason),
        "kept": changes(masked(letter.payload_before, hidden), masked(letter.payload_after, hidden)),
        "arguments": _arguments(letter.task),
    }
    return TemplateResponse(request, "admin/deadletters/letter.html", context)


def changes(before: Any, after: Any) -> list[str]:
    """Line by line, what is gone and what is new; nothing where one side is missing."""
    if before is None or after is None:
        return []
    # PostgreSQL keeps no order of names, so an order is no difference.
    old, new = (_text(value, sort_keys=True).splitlines() for value in (before, after))
    lines = difflib.unified_diff(old, new, lineterm="", n=2)
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def _checked(letter: DeadLetter, form: EditForm) -> dict[str, Any] | None:
    """The payload with its masks resolved, if the task takes it; else the form says why not."""
    payload = unmasked(form.cleaned_data["payload"], letter.job.payload)
    try:
        draft(letter.task, payload)
    except InvalidJob as error:
        form.add_error("payload", f"{error.field}: {error.reason}")
        return None
    return payload


def _replay(request: HttpRequest, letter: DeadLetter, form: EditForm, payload: dict[str, Any]) -> HttpResponse:
    edited = payload if payload != letter.job.payload else None
    here = reverse("admin:deadletters_deadletter_change", args=[letter.pk])
    try:
        replay.replay(letter, actor=request.user.get_username(), reason=form.cleaned_data["reason"], payload=edited)
    except REFUSALS as refusal:
        messages.error(request, f"Not replayed: {refusal}")
        return HttpResponseRedirect(here)
    messages.success(request, f"Replayed{' with an edited payload' if edited else ''}.")
    return HttpResponseRedirect(reverse("admin:jobs_job_change", args=[letter.job_id]))


def _may_edit(request: HttpRequest, letter: DeadLetter) -> bool:
    may = request.user.has_perm("deadletters.edit_payload") and request.user.has_perm("deadletters.replay_deadletter")
    return may and letter.is_open


def _arguments(task: str) -> list[tuple[str, str, bool]]:
    """Name, type and whether it must be given, of what the task takes now."""
    if task not in registry.tasks():
        return []
    schema = registry.arguments(registry.find(task)).model_json_schema()
    required = schema.get("required", ())
    return [(name, _kind(about), name in required) for name, about in schema.get("properties", {}).items()]


def _kind(about: dict[str, Any]) -> str:
    kinds = [each.get("type", "object") for each in about.get("anyOf", [about])]
    return " or ".join(dict.fromkeys(kinds)) + (
        f", one of {', '.join(map(str, about['enum']))}" if "enum" in about else ""
    )


def _text(value: Any, *, sort_keys: bool = False) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=sort_keys)
