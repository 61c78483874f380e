"""`manage.py alive worker`: the health check of a container; it exits 1 when what it asks for does not answer."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

import httpx
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import InterfaceError, OperationalError
from django.db.models.functions import Now

from jobs.models import Worker
from jobs.processes import host

ANSWER_SECONDS = 5.0


class Command(BaseCommand):
    help = "Is a process of this kind alive on this host, or does this address answer? Exits 1 when not."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        kinds = ", ".join(Worker.Kind.values)
        parser.add_argument("what", metavar="KIND|URL", help=f"{kinds}, or an address")

    def handle(self, *args: Any, what: str, **options: Any) -> None:
        if what.startswith("http://"):
            self._ask_address(what)
        elif what in Worker.Kind.values:
            self._ask_row(what)
        else:
            raise CommandError(
                f"{what!r} is neither an address nor one of {', '.join(Worker.Kind.values)}.", returncode=2
            )

    def _ask_address(self, url: str) -> None:
        try:
            httpx.get(url, timeout=ANSWER_SECONDS, trust_env=False).raise_for_status()
        except httpx.HTTPError as error:
            raise CommandError(str(error).splitlines()[0]) from None

    def _ask_row(self, kind: str) -> None:
        lease = timedelta(seconds=settings.LEASE_SECONDS)
        beating = Worker.objects.exclude(state=Worker.State.DEAD).filter(heartbeat_at__gt=Now() - lease)
        try:
            found = beating.filter(kind=kind, host=host()).exists()
        except (OperationalError, InterfaceError):
            # Restarting every process would not bring the database back.
            self.stdout.write("PostgreSQL does not answer; this process waits for it.")
            return
        if not found:
            raise CommandError(f"No {kind} on {host()} has beaten in the last {settings.LEASE_SECONDS:g} s.")
