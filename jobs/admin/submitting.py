"""Submitting a job by hand: a form per task, made from the schema its arguments are checked against."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html

from api.jsonfield import JsonField
from jobs import registry
from jobs.errors import InvalidJob, JobError
from jobs.models import Event
from jobs.policies import policy
from jobs.submission import submit

# Other types, and choices between types, are typed as JSON.
SIMPLE = {"string": forms.CharField, "integer": forms.IntegerField, "number": forms.FloatField}
LONG_TEXTS = {"body", "text", "message", "content"}


class OptionsForm(forms.Form):
    """Everything about a job that is not its task's own business."""

    prefix = "job"
    queue = forms.ChoiceField(required=False, help_text="The task's own, unless another is chosen.")
    delay = forms.FloatField(
        required=False, min_value=0, label="Delay, seconds", help_text="Not before so many seconds have passed."
    )
    key = forms.CharField(
        required=False, max_length=255, label="Idempotency key", help_text="The same key makes the same job only once."
    )
    tags = forms.CharField(required=False, help_text="Words to find the job by, separated by commas.")

    def __init__(self, *args: Any, own_queue: str, **options: Any) -> None:
        super().__init__(*args, **options)
        choices = [("", f"{own_queue}, as its policy says"), *((name, name) for name in settings.PRIORITIES)]
        self.fields["queue"].choices = choices  # type: ignore[attr-defined]

    def given(self) -> dict[str, Any]:
        data = self.cleaned_data
        tags = [tag.strip() for tag in data["tags"].split(",") if tag.strip()]
        return {"queue": data["queue"] or None, "delay": data["delay"] or 0, "key": data["key"] or None, "tags": tags}


class PayloadForm(forms.Form):
    """One field per argument. What is left empty and may be, is left out."""

    prefix = "payload"

    def __init__(self, schema: dict[str, Any], *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.schema = schema
        for name, about in schema.get("properties", {}).items():
            self.fields[name] = field(name, about, is_required=name in schema.get("required", ()))

    def payload(self) -> dict[str, Any]:
        return {name: value for name, value in self.cleaned_data.items() if value not in (None, "")}


def field(name: str, about: dict[str, Any], *, is_required: bool) -> forms.Field:
    """A form field for a property of a JSON schema; the task's own model has the last word."""
    said: dict[str, Any] = {"required": is_required, "label": about.get("title", name), "help_text": _limits(about)}
    if "default" in about and about["default"] is not None:
        said["initial"] = about["default"]
    kind = about.get("type")
    if "enum" in about:
        return forms.ChoiceField(choices=[(value, value) for value in about["enum"]], **said)
    if kind == "boolean":
        return forms.BooleanField(**said | {"required": False})
    if kind in SIMPLE:
        widget = {"widget": forms.Textarea(attrs={"rows": 4})} if name in LONG_TEXTS else {}
        return SIMPLE[kind](**said, **widget)
    kinds = {each.get("type") for each in about.get("anyOf", ())}
    is_small = bool(kinds) and not kinds & {"array", "object", None}
    small = {"widget": forms.TextInput()} if is_small else {}
    return JsonField(takes_text="string" in kinds, **said, **small)


def tasks_page(request: HttpRequest) -> HttpResponse:
    """Every task that can be submitted."""
    _require(request)
    rows = [(name, registry.summary(task), policy(name)) for name, task in sorted(_open().items())]
    context = admin.site.each_context(request) | {"title": "Submit a job", "rows": rows}
    return TemplateResponse(request, "admin/jobs/submit_tasks.html", context)


def submit_page(request: HttpRequest, task: str) -> HttpResponse:
    _require(request)
    if task not in _open():
        raise Http404(f"There is no task {task}.")
    schema = registry.arguments(registry.find(task)).model_json_schema()
    data = request.POST or None
    payload, options = PayloadForm(schema, data), OptionsForm(data, own_queue=policy(task).queue)
    is_sent = data is not None and payload.is_valid() and options.is_valid()
    if is_sent and (done := _submit(request, task, payload, options)):
        return done
    context = admin.site.each_context(request) | {
        "title": f"Submit {task}",
        "task": task,
        "does": registry.summary(registry.find(task)),
        "payload": payload,
        "options": options,
    }
    return TemplateResponse(request, "admin/jobs/submit.html", context)


def _submit(request: HttpRequest, task: str, payload: PayloadForm, options: OptionsForm) -> HttpResponse | None:
    """The job's page; None when it was refused, with the error beside its field."""
    try:
        job = submit(task, payload.payload(), scope=f"panel:{request.user.pk}", **options.given())
    except InvalidJob as error:
        _, _, name = error.field.removeprefix("/payload").partition("/")
        name = name.partition("/")[0]
        place = options if error.field.strip("/").partition("/")[0] in options.fields else payload
        where = error.field.strip("/").partition("/")[0] if place is options else name
        place.add_error(where if where in place.fields else None, error.reason)
        return None
    except JobError as error:
        payload.add_error(None, str(error))
        return None
    page = reverse("admin:jobs_job_change", args=[job.pk])
    if not job.replayed:
        Event.objects.create(job=job, verb="submitted by hand", actor=request.user.get_username())
    said = "This key had made a job already: here it is." if job.replayed else "Submitted."
    messages.success(request, format_html("{} {}", said, task))
    return HttpResponseRedirect(page)


def _open() -> dict[str, Any]:
    """Tasks people submit; the house's own run by themselves."""
    return {name: task for name, task in registry.tasks().items() if policy(name).queue in settings.PRIORITIES}


def _require(request: HttpRequest) -> None:
    if not request.user.has_perm("jobs.submit_job"):
        raise PermissionDenied


def _limits(about: dict[str, Any]) -> str:
    """A schema's limits as a person reads them."""
    parts = _said(about)
    if about.get("type") in ("object", "array") or "$ref" in about:
        parts.append("JSON")
    for each in about.get("anyOf", ()):
        parts += _said(each)
    said = ", ".join(dict.fromkeys(parts))
    return said[:1].upper() + said[1:]


def _said(about: dict[str, Any]) -> list[str]:
    words = {
        "minimum": "at least {}", "maximum": "at most {}", "exclusiveMinimum": "more than {}",
        "minLength": "at least {} characters", "maxLength": "at most {} characters", "pattern": "matches {}",
        "format": "an {} address",
    }  # fmt: skip
    if {"minLength", "maxLength"} <= about.keys():
        between = f"{about['minLength']} to {about['maxLength']} characters"
        return [between, *_said({name: value for name, value in about.items() if not name.endswith("Length")})]
    return [text.format(_plain(about[name])) for name, text in words.items() if name in about]


def _plain(limit: Any) -> Any:
    return int(limit) if isinstance(limit, float) and limit.is_integer() else limit
