"""Acts on everything that the list of letters shows, when that is more than one request may touch."""

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from api.confirmation import ActingAdmin, ReasonForm, Verb
from deadletters import operations
from deadletters.bulk import chosen
from deadletters.triage import pace_field
from jobs.admin.operations import EVERYTHING, ask, everything_page, is_refused
from jobs.admin.searching import label_of

COLUMNS = {"task": "task", "queue": "queue", "cause__exact": "cause", "fingerprint": "fingerprint",
           "resolution": "resolution"}  # fmt: skip
# What a list's address says besides its filters: the search, the page, the order.
OTHERS = {"q", "p", "o", "all", "e"}


class PacedForm(ReasonForm):
    pace = pace_field()


def ask_about_everything(page: ActingAdmin, verb: Verb, request: HttpRequest) -> HttpResponse | None:
    """The confirmation page of an operation, or, once it was sent back, the operation's own page."""
    if strange := request.GET.keys() - COLUMNS.keys() - OTHERS:
        # An operation that did not know this filter would touch letters that the list never showed.
        said = f"The filter {min(strange)!r} cannot choose dead letters for a bulk operation."
        page.message_user(request, said, messages.ERROR)
        return None
    asking: Callable[..., HttpResponse | None] = _ask_to_replay if verb.name == "replay" else ask
    return asking(page, verb, request, _asked(request))


def _asked(request: HttpRequest) -> dict[str, Any]:
    """The list's filters and its search, as operations keep them."""
    text = request.GET.get("q", "").strip()
    label = label_of(text)
    asked = {name: request.GET.get(given) for given, name in COLUMNS.items()}
    asked |= {"label": label, "identity": text if label is None else None}
    return {name: value for name, value in asked.items() if value}


def _ask_to_replay(page: ActingAdmin, verb: Verb, request: HttpRequest, asked: dict[str, Any]) -> HttpResponse | None:
    if is_refused(page, request):
        return None
    form = PacedForm(request.POST if EVERYTHING in request.POST else None, needs_reason=verb.needs_reason)
    if form.is_valid():
        how = {"actor": request.user.get_username(), "patch": None, **form.cleaned_data}
        operation = operations.start(chosen(asked), filter=asked, **how)
        return HttpResponseRedirect(reverse("admin:deadletters_replayoperation_change", args=[operation.pk]))
    return everything_page(
        page, verb, request, form, rows=chosen(asked).open(), among="open dead letters", chosen=asked
    )
