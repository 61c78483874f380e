"""Acts on very many rows, and the schedule that finds those nobody carries on."""

from typing import Any

import django.db.models.functions.datetime
from django.db import migrations, models

NAME = "bulk operations"


def create(apps: Any, _: Any) -> None:
    every_minute, _ = apps.get_model("django_celery_beat", "IntervalSchedule").objects.get_or_create(
        every=1, period="minutes"
    )
    defaults = {"task": "resume_operations", "interval": every_minute, "expire_seconds": 60}
    apps.get_model("django_celery_beat", "PeriodicTask").objects.get_or_create(name=NAME, defaults=defaults)


def remove(apps: Any, _: Any) -> None:
    apps.get_model("django_celery_beat", "PeriodicTask").objects.filter(name=NAME).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0005_control_worker"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]

    operations = [
        migrations.CreateModel(
            name="BulkOperation",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("verb", models.CharField(max_length=20)),
                ("filter", models.JSONField(default=dict)),
                ("reason", models.TextField(default="")),
                (
                    "state",
                    models.CharField(
                        choices=[("RUNNING", "Running"), ("ABORTED", "Aborted"), ("DONE", "Done")],
                        default="RUNNING",
                        max_length=10,
                    ),
                ),
                ("total", models.IntegerField(default=0, help_text="Rows that matched at the start.")),
                ("done", models.IntegerField(default=0)),
                ("skipped", models.IntegerField(default=0)),
                ("skips", models.JSONField(default=dict, help_text="Rows left alone, by reason.")),
                ("created_by", models.CharField(max_length=150)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("finished_at", models.DateTimeField(null=True)),
                (
                    "position",
                    models.CharField(
                        editable=False, help_text="The last row it has dealt with.", max_length=36, null=True
                    ),
                ),
                ("driver", models.UUIDField(editable=False, help_text="The job that carries it on.", null=True)),
            ],
            options={
                "ordering": ["-created_at", "-id"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("finished_at__isnull", True), ("state", "RUNNING")),
                            models.Q(models.Q(("state", "RUNNING"), _negated=True), ("finished_at__isnull", False)),
                            _connector="OR",
                        ),
                        name="bulk_operation_is_finished_exactly_when_it_runs_no_more",
                    )
                ],
            },
        ),
        migrations.RunPython(create, remove),
    ]
