"""`manage.py dependencies`: what is installed, under which licence, and which faults are known."""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from monitoring.dependencies import INDEX, Package, audit, installed

FAULTY, UNANSWERED = 1, 2
NAMED = 10


class Command(BaseCommand):
    help = (
        "Lists every installed package with its licence; --audit asks PyPI for known faults instead. "
        "Exit codes: 0 none known; 1 a fault is known; 2 PyPI did not answer for every package."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--audit", action="store_true")
        parser.add_argument("--index", default=INDEX, metavar="URL", help=f"with PyPI's JSON API ({INDEX})")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        packages = installed()
        if options["audit"]:
            self._audit(packages, options["index"])
        elif options["json"]:
            self.stdout.write(json.dumps([asdict(each) for each in packages]))
        else:
            for each in packages:
                self.stdout.write(f"{each.name:<32} {each.version:<16} {each.licence}")

    def _audit(self, packages: list[Package], index: str) -> None:
        found = audit(packages, index)
        for fault in found.faults:
            self.stdout.write(fault)
        self.stdout.write(f"{len(packages) - len(found.unanswered)} packages asked about, {len(found.faults)} faults")
        if found.unanswered:
            self.stderr.write(f"{index} did not answer for {_listed(found.unanswered)}: nothing is known about these.")
        if found.faults:
            raise CommandError("Known faults are installed.", returncode=FAULTY)
        if found.unanswered:
            raise CommandError("The audit is not complete.", returncode=UNANSWERED)


def _listed(packages: list[Package]) -> str:
    names = ", ".join(f"{each.name} {each.version}" for each in packages[:NAMED])
    return f"{names} and {len(packages) - NAMED} more" if len(packages) > NAMED else names
