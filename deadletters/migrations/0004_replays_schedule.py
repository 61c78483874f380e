"""The schedule that finds replays nobody carries on. A row that exists already, edited or not, is left as it is."""

from typing import Any

from django.db import migrations

NAME = "replays"


def create(apps: Any, _: Any) -> None:
    every_minute, _ = apps.get_model("django_celery_beat", "IntervalSchedule").objects.get_or_create(
        every=1, period="minutes"
    )
    defaults = {"task": "resume_replays", "interval": every_minute, "expire_seconds": 60}
    apps.get_model("django_celery_beat", "PeriodicTask").objects.get_or_create(name=NAME, defaults=defaults)


def remove(apps: Any, _: Any) -> None:
    apps.get_model("django_celery_beat", "PeriodicTask").objects.filter(name=NAME).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("deadletters", "0003_replay_pace"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]

    operations = [migrations.RunPython(create, remove)]
