"""The roles may also look at how far claims, rates, rollups and counters are."""

from typing import Any

from django.contrib.auth.management import create_permissions
from django.db import migrations

ROLES = ("viewer", "operator", "manager")
VIEWED = {"jobs": ("batch", "pace"), "monitoring": ("rollupprogress", "counterstate")}


def grant(apps: Any, _: Any) -> None:
    from django.apps import apps as current

    # Permissions are rows too, which Django writes only after all migrations.
    for label in VIEWED:
        create_permissions(current.get_app_config(label), verbosity=0)
    permissions = apps.get_model("auth", "Permission").objects
    for group in apps.get_model("auth", "Group").objects.filter(name__in=ROLES):
        for label, models in VIEWED.items():
            codenames = [f"view_{model}" for model in models]
            group.permissions.add(*permissions.filter(content_type__app_label=label, codename__in=codenames))


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0006_roles")]

    operations = [migrations.RunPython(grant, migrations.RunPython.noop)]
