"""django-tasks-db: Django's own task interface on the database."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.peers.django_site")

import django

django.setup()

from benchmarks.peers.django_tasks import noop
from benchmarks.peers.driving import drive


def prepare() -> None:
    from django.core.management import call_command
    from django_tasks_db.models import DBTaskResult

    call_command("migrate", verbosity=0)
    DBTaskResult.objects.all().delete()


if __name__ == "__main__":
    drive(prepare=prepare, submit=lambda payload: noop.enqueue(**payload))
