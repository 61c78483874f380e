"""`manage.py purge user_id=usr_7`: delete one customer's jobs, found by a value in their payload."""

import getpass
import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from jobs.policies import tables
from monitoring.erasure import Erased, erase

USAGE = 2


class Command(BaseCommand):
    help = (
        "Deletes finished jobs whose payload has this value, with all that hangs on them: keys, attempts, events, "
        "letters, reports. Exits 1 when jobs are left that must be cancelled, or whose letters be dropped, first."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("value", metavar="FIELD=VALUE", help="a field of the payload, at its top level")
        parser.add_argument("--task", help="only jobs of this task")
        parser.add_argument("--reason", required=True, help="kept in the audit trail, like the number of the request")
        parser.add_argument("--dry-run", action="store_true", help="count, delete nothing")
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, value: str, task: str | None, **options: Any) -> None:
        field, separator, wanted = value.partition("=")
        if not field or not separator or not wanted:
            raise CommandError("Name a field and a value, like user_id=usr_7.", returncode=USAGE)
        if task is not None and task not in tables():
            raise CommandError(f"There is no task {task!r}; there are {', '.join(tables())}.", returncode=USAGE)
        asked = {"task": task, "actor": getpass.getuser(), "reason": options["reason"]}
        found = erase(field, wanted, **asked, dry_run=True)
        if not options["dry_run"] and found.jobs:
            _confirm(len(found.jobs), yes=options["yes"])
            found = erase(field, wanted, **asked)
        self._report(found, options)

    def _report(self, found: Erased, options: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(json.dumps({"dry_run": options["dry_run"], **asdict(found)}, default=str, indent=2))
        else:
            would = "would be " if options["dry_run"] else ""
            self.stdout.write(f"{would}purged: {len(found.jobs):,} jobs, {found.reports:,} reports")
            for job in found.unfinished:
                self.stderr.write(f"Job {job} is not over: cancel it, then purge again.")
            for job in found.with_open_letter:
                self.stderr.write(f"Job {job} has an open dead letter: drop it (dlq drop), then purge again.")
        if not found.is_complete:
            raise CommandError(f"{len(found.unfinished) + len(found.with_open_letter):,} jobs are left.")


def _confirm(count: int, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(f"This would delete {count:,} jobs for good: say --yes, or try --dry-run.", returncode=USAGE)
    if input(f"Delete {count:,} jobs for good? [y/N] ").strip().lower() not in ("y", "yes"):
        raise CommandError("Nothing was changed.")
