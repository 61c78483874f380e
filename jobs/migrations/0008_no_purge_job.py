"""Jobs go with the purge of their dead letters, which has its own permission; nothing asked for this one."""

from typing import Any

from django.db import migrations


def remove(apps: Any, _: Any) -> None:
    unused = apps.get_model("auth", "Permission").objects.filter(content_type__app_label="jobs", codename="purge_job")
    unused.delete()


class Migration(migrations.Migration):
    dependencies = [("jobs", "0007_guard_calls"), ("auth", "0012_alter_user_first_name_max_length")]

    operations = [
        migrations.AlterModelOptions(
            name="job",
            options={
                "ordering": ["-created_at", "-id"],
                "permissions": [
                    ("view_payload", "Can see payloads and results unmasked"),
                    ("submit_job", "Can submit jobs"),
                    ("cancel_job", "Can cancel jobs"),
                    ("retry_job", "Can make waiting jobs run now"),
                ],
            },
        ),
        migrations.RunPython(remove, migrations.RunPython.noop),
    ]
