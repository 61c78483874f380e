"""`manage.py doctor`: what could lose jobs in this installation, one line each."""

import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand
from django.db import OperationalError

from monitoring.diagnoses import Finding, examine


class Command(BaseCommand):
    help = "Checks what loses jobs here: OK, WARN or FAIL, and what to do. Exits 1 when something FAILs."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON array instead of lines")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            findings = list(examine())
        except OperationalError as error:
            text = str(error).strip().splitlines()[0]
            findings = [Finding("database", "FAIL", text, "Start PostgreSQL, check DATABASE_URL.")]
        if options["json"]:
            self.stdout.write(json.dumps([asdict(finding) for finding in findings]))
        else:
            for finding in findings:
                self._print(finding)
        if any(finding.level == "FAIL" for finding in findings):
            sys.exit(1)

    def _print(self, finding: Finding) -> None:
        style = {"OK": self.style.SUCCESS, "WARN": self.style.WARNING, "FAIL": self.style.ERROR}[finding.level]
        self.stdout.write(f"{style(finding.level.ljust(4))}  {finding.check:<20} {finding.text}")
        if finding.advice:
            self.stdout.write(f"      {'':<20} {finding.advice}")
