"""Finding jobs: what can be typed into the search box, and filters that need no reading of the table."""

import re
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest

from jobs import registry
from jobs.browsing import identified
from jobs.models import JobLabel
from jobs.policies import policy

SEARCH_HELP = "An id or its beginning, an idempotency key, payload.field:value, or tag:name."
LABELLED = re.compile(r"(?:payload\.(?P<field>[^:\s]+)|(?P<tag>tag)):(?P<value>.+)", re.DOTALL)
# Pages of a bounded look that an export may take.
SEARCHED = 40


def found(jobs: QuerySet, text: str) -> QuerySet:
    """The jobs meant by a search."""
    text = text.strip()
    if label := label_of(text):
        return jobs.filter(pk__in=JobLabel.objects.filter(label=label).values("job"))
    return identified(jobs, text)


def label_of(text: str) -> str | None:
    """The label that a search by tag or payload field looks up."""
    labelled = LABELLED.fullmatch(text.strip())
    return f"{labelled['field'] or 'tag'}:{labelled['value'].strip()}" if labelled else None


def check_search(page: admin.ModelAdmin, request: HttpRequest, text: str, *, otherwise: str) -> None:
    """Refuse a search that would tell a secret; of one by a field without labels, say what happens `otherwise`."""
    if is_about_secrets(text) and not request.user.has_perm("jobs.view_payload"):
        raise PermissionDenied("This field is redacted; searching by it needs the permission to see payloads.")
    if wrong := _unsearchable(text, otherwise):
        page.message_user(request, wrong, messages.WARNING)


def _unsearchable(text: str, otherwise: str) -> str | None:
    """What to know about a search of a payload field that has no labels, or None."""
    labelled = LABELLED.fullmatch(text.strip())
    known = sorted({name for task in registry.tasks() for name in policy(task).searchable})
    if not labelled or labelled["tag"] or labelled["field"] in known:
        return None
    return (
        f"No policy makes payload.{labelled['field']} searchable, so {otherwise}. "
        f"Found at once: {', '.join(known) or 'none'}."
    )


def is_about_secrets(text: str) -> bool:
    """Whether a search would tell what a redacted field holds."""
    labelled = LABELLED.fullmatch(text.strip())
    redacted = {name for task in registry.tasks() for name in policy(task).redacted}
    return bool(labelled and labelled["field"] and redacted & set(labelled["field"].split(".")))


class TaskFilter(admin.SimpleListFilter):
    """By task, as far as this process knows them; a DISTINCT would read the whole table."""

    title = parameter_name = "task"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in sorted(registry.tasks())]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(task=self.value()) if self.value() else queryset


class QueueFilter(admin.SimpleListFilter):
    title = parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in settings.JOB_QUEUES]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(queue=self.value()) if self.value() else queryset
