"""The list of jobs: pages by place instead of number, none of which reads more than a bounded part of the table."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db import connection
from django.db.models import Count, F, Func, IntegerField, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from api.masking import masked
from api.paging import Page, decoded
from api.problems import Problem
from api.readfirst import COUNTED_EXACTLY, estimated
from jobs.admin.searching import LABELLED, SEARCHED, found
from jobs.browsing import LOOKED_AT, Wanted, browse
from jobs.models import Job
from jobs.policies import policy
from jobs.states import State

AFTER = "after"
# Larger payloads are not read for a hint beside the task.
HINTED_BYTES = 2000
CREATED = {"1h": ("Last hour", timedelta(hours=1)), "24h": ("Last 24 hours", timedelta(hours=24)),
           "7d": ("Last 7 days", timedelta(days=7))}  # fmt: skip


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state__exact"
    template = "admin/filter_tabs.html"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(State.choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(state=self.value()) if self.value() else queryset

    def choices(self, changelist: Any) -> Iterator[Any]:
        counts = state_counts()
        for choice, state in zip(super().choices(changelist), [None, *State.values], strict=True):
            number = counts.get(state) if state else sum(counts.values())
            said = "" if number is None else f"{number:,}"
            yield {**choice, "state": state.lower() if state else "", "count": said}


class CreatedFilter(admin.SimpleListFilter):
    title = parameter_name = "created"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, label) for name, (label, _) in CREATED.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        span = CREATED.get(self.value() or "")
        return queryset.filter(created_at__gte=timezone.now() - span[1]) if span else queryset


class JobList(ChangeList):
    """Newest first. `complete` is False when a page looked at the next LOOKED_AT rows only."""

    has_places = True
    complete = True

    def get_filters_params(self, params: dict[str, Any] | None = None) -> dict[str, Any]:
        asked: dict[str, Any] = super().get_filters_params(params)
        asked.pop(AFTER, None)
        return asked

    def get_results(self, request: HttpRequest) -> None:
        cursor = self.filter_params.pop(AFTER, [None])[0]
        self.params.pop(AFTER, None)
        found, self.complete = self._page(request, cursor)
        self.result_list = found.rows
        is_whole = not self.query and not self.get_filters_params()
        self.result_count = estimated(Job) if is_whole else len(found.rows) + bool(found.next)
        self.full_result_count = None
        self.show_full_result_count = self.can_show_all = False
        self.show_admin_actions = True
        self.multi_page = False
        self.paginator = self.model_admin.get_paginator(request, self.result_list, self.list_per_page)
        self.first_page = self.get_query_string() if cursor else ""
        self.next_page = self.get_query_string({AFTER: found.next}) if found.next else ""
        self.count_text = self._said(found, is_whole)
        add_hints(self.result_list)

    def _page(self, request: HttpRequest, cursor: str | None) -> tuple[Page, bool]:
        try:
            after = decoded(cursor, UUID) if cursor else None
        except Problem as problem:
            raise IncorrectLookupParameters from problem
        if self.query.strip() and not LABELLED.fullmatch(self.query.strip()):
            # By id or key: the primary key leads there, newest first because ids begin with the time.
            rows = list(self.queryset.order_by("-pk")[: self.list_per_page + 1])
            return Page(rows[: self.list_per_page], None), True
        return browse(wanted(request, self.query), after, self.list_per_page)

    def _said(self, found: Page, is_whole: bool) -> str:
        if not self.complete:
            more = "there may be older ones" if found.next else "these are all"
            return f"{len(found.rows)} among the next {LOOKED_AT:,} jobs; {more}"
        if is_whole:
            about = "about " if self.result_count > COUNTED_EXACTLY else ""
            return f"{about}{self.result_count:,} jobs".capitalize()
        return f"{len(found.rows):,}{' or more' if found.next else ''} job{'' if len(found.rows) == 1 else 's'}"


def wanted(request: HttpRequest, text: str) -> Wanted:
    """The list's filters and its search, as the API would be asked."""
    span = CREATED.get(request.GET.get("created", ""))
    labelled = LABELLED.fullmatch(text.strip())
    said = labelled["value"].strip() if labelled else text.strip()
    return Wanted(
        status=request.GET.get(StateFilter.parameter_name) or None,
        task=request.GET.get("task") or None,
        queue=request.GET.get("queue") or None,
        tag=said if labelled and labelled["tag"] else None,
        since=timezone.now() - span[1] if span else None,
        identity=said if said and not labelled else None,
        payload={labelled["field"]: said} if labelled and labelled["field"] else {},
    )


def every(request: HttpRequest, text: str, most: int) -> Iterator[Job]:
    """What the list would show, page after page, up to a number of jobs and of pages."""
    if text.strip() and not LABELLED.fullmatch(text.strip()):
        yield from found(Job.objects.all(), text).order_by("-pk")[:most]
        return
    after, given = None, 0
    for _ in range(SEARCHED):
        rows, cursor = browse(wanted(request, text), after, min(1000, most - given))[0]
        yield from rows
        given += len(rows)
        if cursor is None or given >= most:
            return
        after = decoded(cursor, UUID)


def state_counts() -> dict[str, int]:
    """Jobs per state: counted while there are few, then as PostgreSQL's statistics tell, which know no rare ones."""
    rows = estimated(Job)
    if rows <= COUNTED_EXACTLY:
        return dict.fromkeys(State.values, 0) | dict(Job.objects.order_by().values_list("state").annotate(Count("pk")))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT unnest(most_common_vals::text::text[]), unnest(most_common_freqs) FROM pg_stats"
            " WHERE schemaname = current_schema() AND tablename = %s AND attname = 'state'",
            [Job._meta.db_table],
        )
        return {state: round(share * rows) for state, share in cursor.fetchall()}


def add_hints(jobs: list[Any]) -> None:
    """Beside each job what tells it from others: its payload in short, and how far it is."""
    size = Func(F("payload"), function="pg_column_size", output_field=IntegerField())
    rows = Job.objects.filter(pk__in=[job.pk for job in jobs]).order_by()
    progress = dict(rows.filter(state=State.STARTED).values_list("pk", "progress"))
    small = dict(rows.annotate(size=size).filter(size__lt=HINTED_BYTES).values_list("pk", "payload"))
    for job in jobs:
        job.progress, job.hint = progress.get(job.pk), hint(small.get(job.pk), job.task)


def hint(payload: Any, task: str) -> str:
    shown = masked(payload, policy(task).redacted)
    pairs = shown.items() if isinstance(shown, dict) else ()
    return ", ".join(f"{name}={value}" for name, value in pairs if isinstance(value, (str, int, float)))[:160]
