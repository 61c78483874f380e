"""What manage.py does before a command, for the processes that are none: the web; workers and beat as far as they go.

Every deployment runs all checks when it migrates; those of a worker are about what a running worker would trip over.
"""

import os
import sys
from collections.abc import Sequence

import django
from celery import Celery
from celery.fixups.django import DjangoFixup
from django.core.checks import Tags
from django.core.management.base import BaseCommand, SystemCheckError

# A worker has no addresses and no pages; checking them would load both, and every child would hold them.
OF_A_WORKER = ("jobs", Tags.models)


class CheckedFixup(DjangoFixup):
    """Celery runs all checks and tells nobody what they found; CELERY_SKIP_CHECKS is its own switch."""

    def on_import_modules(self, **_: object) -> None:
        django.setup()
        if not os.environ.get("CELERY_SKIP_CHECKS"):
            refuse_mistakes(OF_A_WORKER)


def fixup(app: Celery) -> DjangoFixup:
    """Make Celery's Django fixup ours."""
    checked = CheckedFixup(app)
    checked.install()
    return checked


def refuse_mistakes(tags: Sequence[str] | None = None) -> None:
    """Run Django's checks, or those with such tags; raises SystemExit with everything that they find wrong."""
    try:
        BaseCommand().check(tags=tags)
    except SystemCheckError as error:
        sys.exit(str(error))
