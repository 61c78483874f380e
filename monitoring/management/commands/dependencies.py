"""`manage.py dependencies`: what is installed, under which licence, and which faults are known."""

import json
import subprocess
import sys
from argparse import ArgumentParser
from importlib.metadata import Distribution, distributions
from typing import Any

from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = "Lists every installed package with its licence; --audit asks the public databases for known faults."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--audit", action="store_true", help="run pip-audit (a development requirement)")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["audit"]:
            self._audit()
            return
        found = sorted({(each.name.lower(), each.version, licence(each)) for each in distributions()})
        if options["json"]:
            keys = ("name", "version", "licence")
            self.stdout.write(json.dumps([dict(zip(keys, each, strict=True)) for each in found]))
            return
        for name, version, terms in found:
            self.stdout.write(f"{name:<32} {version:<16} {terms}")

    def _audit(self) -> None:
        done = subprocess.run([sys.executable, "-m", "pip_audit"], capture_output=True, text=True, check=False)
        self.stdout.write(done.stdout)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["pip-audit found faults"]
            raise CommandError(last[0])


def licence(package: Distribution) -> str:
    """As the package itself says: an SPDX expression, else its classifiers, else the first line of free text."""
    about: Any = package.metadata
    if expression := about.get("License-Expression"):
        return str(expression)
    classifiers = [
        each.split(" :: ")[-1] for each in about.get_all("Classifier") or [] if each.startswith("License ::")
    ]
    return ", ".join(classifiers) or (about.get("License") or "not stated").splitlines()[0]
