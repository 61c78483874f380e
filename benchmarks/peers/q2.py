"""django-q2 with its ORM broker."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.peers.django_site")

import django

django.setup()

from django_q.tasks import async_task

from benchmarks.peers.driving import drive


def prepare() -> None:
    from django.core.management import call_command
    from django_q.models import OrmQ, Success

    call_command("migrate", verbosity=0)
    OrmQ.objects.all().delete()
    Success.objects.all().delete()


if __name__ == "__main__":
    drive(prepare=prepare, submit=lambda payload: async_task("benchmarks.peers.django_tasks.plain", **payload))
