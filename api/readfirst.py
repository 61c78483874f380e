"""Admin pages for looking: rows are written by verbs, never by forms."""

import json
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.contrib import admin
from django.core.paginator import Paginator
from django.db import connection, models
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString

COUNTED_EXACTLY = 10_000
STEPS = ((86400, "d"), (3600, "h"), (60, "min"))


class EstimatedPaginator(Paginator):
    """Counts small results exactly; for a whole big table it takes PostgreSQL's own estimate."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        if not hasattr(rows, "query"):
            return len(rows)
        if not rows.query.where and (estimate := _estimate(rows.model)) > COUNTED_EXACTLY:
            return estimate
        return rows.order_by()[: COUNTED_EXACTLY + 1].count()


class _LookOnly:
    """What pages and inlines of rows that nobody edits have in common."""

    def has_add_permission(self, *_: Any) -> bool:
        return False

    def has_change_permission(self, *_: Any) -> bool:
        return False

    def has_delete_permission(self, *_: Any) -> bool:
        return False


class ReadFirstAdmin(_LookOnly, admin.ModelAdmin):
    """A list and a page per row, without add, edit or delete; fit for tables of any size."""

    paginator = EstimatedPaginator
    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    # Sorting a big table by a column without an index would read all of it.
    sortable_by: ClassVar[tuple[str, ...]] = ()
    list_select_related: ClassVar[tuple[str, ...]] = ()
    empty_value_display = ""


class ReadFirstInline(_LookOnly, admin.StackedInline):
    """Rows that belong to the one above, for looking."""

    extra = 0


def ago(moment: datetime | None) -> str | SafeString:
    """A time as people say it, with the exact one beside it."""
    if moment is None:
        return ""
    passed = timezone.now() - moment
    said = f"in {coarse(-passed)}" if passed < timedelta(0) else f"{coarse(passed)} ago"
    return format_html('<time datetime="{0}" title="{0}">{1}</time>', moment.isoformat(timespec="seconds"), said)


def coarse(length: timedelta) -> str:
    """An age, of which nobody wants to know the seconds once there are minutes."""
    seconds = round(length.total_seconds())
    return f"{seconds // 60} min" if 60 <= seconds < 600 else duration(length)


def duration(length: timedelta | None) -> str:
    """610 ms, 4.4 s, 41 s, 6 min 12 s, 22 min, 2 h, 3 d."""
    if length is None:
        return ""
    seconds = length.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60} s"
    size, unit = next(step for step in STEPS if seconds >= step[0])
    return f"{seconds // size:.0f} {unit}"


def preformatted(value: Any) -> str | SafeString:
    """JSON for reading, or text as it stands; nothing for nothing."""
    if value in (None, ""):
        return ""
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return format_html("<pre>{}</pre>", text)


def estimated(model: type[models.Model]) -> int:
    """How many rows there are: exactly, while they are few."""
    estimate = _estimate(model)
    if estimate > COUNTED_EXACTLY:
        return estimate
    return model._default_manager.order_by()[: COUNTED_EXACTLY + 1].count()


def _estimate(model: type[models.Model]) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [model._meta.db_table])
        return cursor.fetchone()[0]
