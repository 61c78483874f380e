"""The house's own schedules. Rows that exist already, edited or not, are left as they are."""

import json
from typing import Any

from django.db import migrations

MADE_UP_FOR = {"missed": "run_once"}
# Name, task, arguments, crontab (minute, hour) in UTC, headers. The reports wait for their last minute's rollup.
CRONTABS: list[tuple[str, str, dict[str, Any], tuple[str, str], dict[str, Any]]] = [
    ("queue report, hourly", "queue_report", {"period": "hourly"}, ("2", "*"), MADE_UP_FOR),
    ("queue report, daily", "queue_report", {"period": "daily"}, ("5", "0"), MADE_UP_FOR),
    ("retention", "retire_jobs", {}, ("30", "3"), MADE_UP_FOR),
]


def create(apps: Any, _: Any) -> None:
    crontabs = apps.get_model("django_celery_beat", "CrontabSchedule")
    for name, task, arguments, (minute, hour), headers in CRONTABS:
        crontab, _ = crontabs.objects.get_or_create(
            minute=minute, hour=hour, day_of_week="*", day_of_month="*", month_of_year="*", timezone="UTC"
        )
        _schedule(apps, name, task=task, kwargs=json.dumps(arguments), crontab=crontab, headers=json.dumps(headers))
    intervals = apps.get_model("django_celery_beat", "IntervalSchedule")
    every_minute, _ = intervals.objects.get_or_create(every=1, period="minutes")
    _schedule(apps, "rollups", task="build_rollups", interval=every_minute, expire_seconds=300)


def remove(apps: Any, _: Any) -> None:
    names = [*(name for name, *_ in CRONTABS), "rollups"]
    apps.get_model("django_celery_beat", "PeriodicTask").objects.filter(name__in=names).delete()


def _schedule(apps: Any, name: str, **fields: Any) -> None:
    apps.get_model("django_celery_beat", "PeriodicTask").objects.get_or_create(name=name, defaults=fields)


class Migration(migrations.Migration):
    dependencies = [
        ("monitoring", "0002_report_outlives_its_job"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]

    operations = [migrations.RunPython(create, remove)]
