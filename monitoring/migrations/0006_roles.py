"""Three roles as groups: who looks, who operates, who manages. Groups of these names keep what they were given."""

from typing import Any

from django.contrib.auth.management import create_permissions
from django.db import migrations

APPS = ("api", "jobs", "deadletters", "monitoring", "django_celery_beat")
SCHEDULES = ("periodictask", "intervalschedule", "crontabschedule", "clockedschedule", "solarschedule")
VIEWED = {
    "jobs": ("job", "attempt", "event", "effect", "idempotencykey", "joblabel", "worker", "queue"),
    "deadletters": ("deadletter", "replayoperation", "replayitem"),
    "monitoring": ("rollup", "report"),
    "django_celery_beat": SCHEDULES,
}
VIEWER = [f"{app}.view_{model}" for app, models in VIEWED.items() for model in models]
OPERATOR = [
    *VIEWER,
    "jobs.submit_job", "jobs.cancel_job", "jobs.retry_job", "jobs.pause_queue", "jobs.control_worker",
    "deadletters.replay_deadletter", "deadletters.edit_payload",
]  # fmt: skip
MANAGER = [
    *OPERATOR,
    "jobs.view_payload", "deadletters.drop_deadletter", "deadletters.purge_deadletter",
    *(f"api.{verb}_apitoken" for verb in ("view", "add", "change")),
    *(f"django_celery_beat.{verb}_{model}" for verb in ("add", "change", "delete") for model in SCHEDULES),
]  # fmt: skip
ROLES = {"viewer": VIEWER, "operator": OPERATOR, "manager": MANAGER}


def create(apps: Any, _: Any) -> None:
    from django.apps import apps as current

    # Permissions are rows too, which Django writes only after all migrations.
    for label in APPS:
        create_permissions(current.get_app_config(label), verbosity=0)
    permissions = apps.get_model("auth", "Permission").objects
    for name, granted in ROLES.items():
        group, _ = apps.get_model("auth", "Group").objects.get_or_create(name=name)
        for permission in granted:
            app, codename = permission.split(".")
            group.permissions.add(permissions.get(content_type__app_label=app, codename=codename))


def remove(apps: Any, _: Any) -> None:
    apps.get_model("auth", "Group").objects.filter(name__in=ROLES).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("monitoring", "0005_counter_state"),
        ("jobs", "0005_control_worker"),
        ("deadletters", "0004_replays_schedule"),
        ("api", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]

    operations = [migrations.RunPython(create, remove)]
