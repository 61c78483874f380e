"""Acting on selected rows in the admin: a page first says what will happen, then the domain verb does it."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied, SuspiciousOperation, ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.http import url_has_allowed_host_and_scheme

from api.readfirst import ReadFirstAdmin
from api.tally import Tally

# The page lists every id and the act runs inside one request, which must end before a proxy gives up.
MOST_AT_ONCE = 1000
# Acts and their log entries alternate, so that a crash leaves at most this many acts unlogged.
LOGGED_TOGETHER = 100
SAMPLES = 5
REASON_LENGTH = 2000


@dataclass(frozen=True, kw_only=True)
class Verb:
    """An act a person confirms. `refusals` foresees which rows will be left alone; `act` decides."""

    name: str
    label: str
    done: str
    permission: str
    consequence: str
    act: Callable[..., Tally]
    refusals: Callable[[Sequence[Any]], dict[Any, str]]
    needs_reason: bool = True
    is_destructive: bool = False
    log_as: int = CHANGE


def row_by_row(why_not: Callable[[Any], str | None]) -> Callable[[Sequence[Any]], dict[Any, str]]:
    """Refusals of many rows from a rule about one."""
    return lambda rows: {row.pk: why for row in rows if (why := why_not(row))}


class ReasonForm(forms.Form):
    reason = forms.CharField(
        max_length=REASON_LENGTH,
        widget=forms.Textarea(attrs={"rows": 2, "autofocus": True}),
        help_text="Kept in the audit trail.",
    )

    def __init__(self, *args: Any, needs_reason: bool, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["reason"].required = needs_reason


class Acting(admin.ModelAdmin):
    """Pages whose actions are verbs and nothing else, each with its own permission and a confirmation page."""

    verbs: tuple[Verb, ...] = ()
    list_select_related: ClassVar[tuple[str, ...]] = ()

    def get_urls(self) -> list[URLPattern]:
        act = self.admin_site.admin_view(self.act_on_one)
        own: list[URLPattern] = [
            path("<path:object_id>/act/<slug:name>/", act, name=self._name("act")),
        ]
        return own + super().get_urls()

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        return {verb.name: (_confirming(verb), verb.name, f"{verb.label}…") for verb in self.allowed(request)}

    def allowed(self, request: HttpRequest) -> list[Verb]:
        return [verb for verb in self.verbs if request.user.has_perm(verb.permission)]

    def buttons(self, request: HttpRequest, row: Any) -> list[tuple[Verb, str]]:
        """What this person may do to this row now, each with the page that asks first."""
        may = [verb for verb in self.allowed(request) if row.pk not in verb.refusals([row])]
        return [(verb, reverse(f"admin:{self._name('act')}", args=[row.pk, verb.name])) for verb in may]

    def act_on_one(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        """The confirmation page of one row, and the act itself."""
        verb = next((verb for verb in self.allowed(request) if verb.name == name), None)
        if verb is None:
            raise PermissionDenied
        row = self.row_to_act_on(request, object_id)
        if row is None:
            raise Http404(f"There is no {self.opts.verbose_name} {object_id}.")
        form = ReasonForm(request.POST or None, needs_reason=verb.needs_reason)
        back = self._back(request, row)
        if request.method == "POST" and form.is_valid():
            self._act(verb, request, [row], form.cleaned_data["reason"])
            return HttpResponseRedirect(back)
        titles = {"title": f"{verb.label} {row}?", "button": f"{verb.label} {self.opts.verbose_name}"}
        page = self._page(verb, request, [row], form) | titles | {"back": back, "one": row}
        return TemplateResponse(request, "admin/confirm_action.html", page)

    def row_to_act_on(self, request: HttpRequest, object_id: str) -> Any:
        return self.get_object(request, object_id)

    def confirm(self, verb: Verb, request: HttpRequest, selected: QuerySet) -> HttpResponse | None:
        """The confirmation page, or, once it was sent back, the act itself."""
        is_answer = "ids" in request.POST
        rows = self._named(request) if is_answer else list(selected[: MOST_AT_ONCE + 1])
        if len(rows) > MOST_AT_ONCE:
            self.message_user(request, f"At most {MOST_AT_ONCE:,} at once: narrow the list first.", messages.ERROR)
            return None
        form = ReasonForm(request.POST if is_answer else None, needs_reason=verb.needs_reason)
        if is_answer and form.is_valid():
            self._act(verb, request, rows, form.cleaned_data["reason"])
            return None
        return TemplateResponse(request, "admin/confirm_action.html", self._page(verb, request, rows, form))

    def _named(self, request: HttpRequest) -> list[Any]:
        """The rows the page listed, whether or not they still match the list's filters."""
        related = self.list_select_related
        rows = self.get_queryset(request).select_related(*related) if related else self.get_queryset(request)
        try:
            return list(rows.filter(pk__in=request.POST["ids"].split(","))[: MOST_AT_ONCE + 1])
        except (ValidationError, ValueError):
            raise SuspiciousOperation("ids that the confirmation page never listed") from None

    def _page(self, verb: Verb, request: HttpRequest, rows: list[Any], form: ReasonForm) -> dict[str, Any]:
        refused = verb.refusals(rows)
        changing = [row for row in rows if row.pk not in refused]
        title = f"{verb.label} {self._count(len(changing))}"
        return self.admin_site.each_context(request) | {
            "title": f"{title}?",
            "opts": self.opts,
            "verb": verb,
            "button": title,
            "changing": len(changing),
            "left_alone": Counter(refused.values()).most_common(),
            "samples": changing[:SAMPLES],
            "unseen": max(0, len(changing) - SAMPLES),
            "ids": ",".join(str(row.pk) for row in rows),
            "first": rows[0].pk if rows else "",
            "checkbox": ACTION_CHECKBOX_NAME,
            "form": form,
            "media": self.media,
            "back": reverse(f"admin:{self._name('changelist')}"),
        }

    def _act(self, verb: Verb, request: HttpRequest, rows: list[Any], reason: str) -> None:
        tally = Tally()
        for start in range(0, len(rows), LOGGED_TOGETHER):
            some = rows[start : start + LOGGED_TOGETHER]
            outcome = verb.act(some, actor=request.user.get_username(), reason=reason)
            done = [row for row in some if row.pk in set(outcome.done)]
            message = f"{verb.done}: {reason}" if reason else verb.done
            LogEntry.objects.log_actions(request.user.pk, done, verb.log_as, message)  # type: ignore[arg-type]
            tally.add(outcome)
        self._tell(verb, request, tally)

    def _tell(self, verb: Verb, request: HttpRequest, tally: Tally) -> None:
        if tally.done:
            self.message_user(request, f"{verb.done}: {self._count(len(tally.done))}.", messages.SUCCESS)
        if tally.skipped:
            reasons = list(tally.skipped.values())
            more = f" And {len(reasons) - SAMPLES:,} more." if len(reasons) > SAMPLES else ""
            left = f"Left alone: {self._count(len(reasons))}. {' '.join(reasons[:SAMPLES])}{more}"
            self.message_user(request, left, messages.WARNING)

    def _back(self, request: HttpRequest, row: Any) -> str:
        asked = request.GET.get("next", "")
        if url_has_allowed_host_and_scheme(asked, allowed_hosts={request.get_host()}):
            return asked
        return reverse(f"admin:{self._name('change')}", args=[row.pk])

    def _name(self, page: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{page}"

    def _count(self, number: int) -> str:
        names = self.opts.verbose_name if number == 1 else self.opts.verbose_name_plural
        return f"{number:,} {names}"


class ActingAdmin(Acting, ReadFirstAdmin):
    """A read-first admin whose rows are changed by verbs only."""


def _confirming(verb: Verb) -> Callable[[Acting, HttpRequest, QuerySet], HttpResponse | None]:
    return lambda page, request, selected: page.confirm(verb, request, selected)
