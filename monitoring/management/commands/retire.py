"""`manage.py retire`: forget what is older than the retention, as the nightly job does."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from monitoring import retention


class Command(BaseCommand):
    help = "Deletes what is older than RETENTION_DAYS, in batches. Open dead letters and keys in force stay."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="count, delete nothing")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, dry_run: bool, **options: Any) -> None:
        found = retention.retire(dry_run=dry_run)
        if options["json"]:
            self.stdout.write(json.dumps({"dry_run": dry_run, **found}))
            return
        for name, number in found.items():
            self.stdout.write(f"{name:<14} {number:>12,}{' would go' if dry_run else ''}")
