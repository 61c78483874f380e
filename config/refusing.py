"""What manage.py does before a command, for the processes that are none: the web, workers and beat."""

import sys

from django.core.management.base import BaseCommand, SystemCheckError


def refuse_mistakes() -> None:
    """Run Django's checks; raises SystemExit with everything that they find wrong."""
    try:
        BaseCommand().check()
    except SystemCheckError as error:
        sys.exit(str(error))
