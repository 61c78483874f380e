"""What a person does in the admin: choose rows, read the confirmation, send it back."""

import re
from collections.abc import Iterable
from html import unescape
from typing import Any

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


def messages_of(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def text_of(response: Any) -> str:
    """The words of a page, without its markup."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())
