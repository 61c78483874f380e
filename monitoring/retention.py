"""Everything that is forgotten some day, and when."""

from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.db.models.functions import Now
from django_celery_results.models import GroupResult, TaskResult

from deadletters import retention as letters
from jobs import retention as jobs
from monitoring.models import Report, Rollup

ROLLUP_AGE = timedelta(days=400)


def retire(*, dry_run: bool = False) -> dict[str, int]:
    """Delete what is old enough; how many rows of each kind. A dry run only counts them."""
    found = {name: jobs.count_or_delete(rows, dry_run=dry_run) for name, rows in _own().items()}
    return jobs.retire(dry_run=dry_run) | letters.retire(dry_run=dry_run) | found


def _own() -> dict[str, QuerySet[Any]]:
    """A year of rollups stays comparable with the one before; reports outlive what they were made from."""
    kept = jobs.retention()
    return {
        "rollups": Rollup.objects.filter(minute__lt=Now() - ROLLUP_AGE),
        "reports": Report.objects.filter(created_at__lt=Now() - 3 * kept),
        "task_results": TaskResult.objects.filter(date_done__lt=Now() - kept),
        "group_results": GroupResult.objects.filter(date_done__lt=Now() - kept),
    }
