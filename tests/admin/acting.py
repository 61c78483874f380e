"""What a person does in the admin: choose rows, read the confirmation, send it back."""

import re
from collections.abc import Iterable
from html import unescape
from typing import Any

from django.contrib.admin import site
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db import models
from django.test import Client
from django.urls import reverse


def page_of(row: models.Model) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def list_of(model: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def choose(client: Client, verb: str, rows: Iterable[models.Model], **more: Any) -> Any:
    """Choose a verb for ticked rows; the confirmation page."""
    rows = list(rows)
    chosen = {"action": verb, ACTION_CHECKBOX_NAME: [str(row.pk) for row in rows], "index": "0"}
    return client.post(list_of(rows[0]), chosen | more, follow=True)


def answer(client: Client, verb: str, rows: Iterable[models.Model], reason: str = "because") -> Any:
    """Send the confirmation back; the list that follows."""
    rows = list(rows)
    asked = {"action": verb, ACTION_CHECKBOX_NAME: str(rows[0].pk), "ids": ",".join(str(row.pk) for row in rows)}
    return client.post(list_of(rows[0]), asked | {"reason": reason}, follow=True)


def choose_all(client: Client, verb: str, rows: models.QuerySet, query: str, **more: str) -> Any:
    """Tick one of these rows, choose all that match, press the verb's button; or, with `everything`, confirm."""
    page = list_of(rows.model)
    ticked = {"action": verb, ACTION_CHECKBOX_NAME: str(rows[0].pk), "select_across": "1"}
    if "everything" not in more:
        verbs = [each.name for each in site._registry[rows.model].verbs]  # type: ignore[attr-defined]
        ticked["index"] = str(verbs.index(verb))
    return client.post(f"{page}?{query}", ticked | more, follow=True)


def messages_of(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def text_of(response: Any) -> str:
    """The words of a page, without its markup."""
    return _words(response.content.decode())


def part_of(response: Any, start: str, end: str) -> str:
    """The words of a page from one piece of its markup to the next of another."""
    _, found, rest = response.content.decode().partition(start)
    assert found, f"the page has no {start}"
    return _words(f"<{start}{rest.partition(end)[0]}" if "<" not in start else rest.partition(end)[0])


def _words(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())
