"""`manage.py queues`: the first look when jobs wait; `queues pause NAME`, `queues resume NAME`."""

import getpass
import json
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from jobs.errors import Conflict, InvalidJob
from jobs.pausing import pause, resume
from monitoring.queues import QueueStats, queue_stats
from monitoring.readiness import serving

COLUMNS = ("queue", "depth", "oldest", "running", "workers", "a minute", "wait p95", "run p95")
SHAPE = "{:<8} {:>9} {:>9} {:>8} {:>8} {:>9} {:>9} {:>9}  {}"

DONE = {"pause": "paused: running jobs finish, the others wait", "resume": "resumed"}


class Command(BaseCommand):
    help = "Shows every queue now and in the last hour; pauses and resumes one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("verb", nargs="?", choices=["show", "pause", "resume"], default="show")
        parser.add_argument("queue", nargs="?")
        parser.add_argument("--reason", default="", help="kept in the audit trail")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, verb: str, queue: str | None, **options: Any) -> None:
        if verb == "show":
            self._show(as_json=options["json"])
            return
        if queue is None:
            raise CommandError(f"Which queue? Say `queues {verb} NAME`.", returncode=2)
        try:
            act: Callable[..., None] = pause if verb == "pause" else resume
            act(queue, actor=getpass.getuser(), reason=options["reason"])
        except (Conflict, InvalidJob) as refused:
            raise CommandError(str(refused)) from None
        self.stdout.write(
            f"{queue} is {'paused: running jobs finish, the others wait' if verb == 'pause' else 'resumed'}"
        )

    def _show(self, *, as_json: bool) -> None:
        stats, workers = queue_stats(), serving()
        if as_json:
            self.stdout.write(json.dumps([asdict(each) | {"workers": workers[each.name]} for each in stats]))
            return
        self.stdout.write(SHAPE.format(*COLUMNS, ""))
        for each in stats:
            self.stdout.write(_line(each, workers[each.name]))


def _line(queue: QueueStats, workers: int) -> str:
    times = [_seconds(queue.wait_p95_ms), _seconds(queue.run_p95_ms)]
    age = "-" if queue.oldest_age_seconds is None else f"{queue.oldest_age_seconds:,.0f} s"
    note = f"paused by {queue.paused_by}: {queue.pause_reason}" if queue.paused else ""
    return SHAPE.format(queue.name, f"{queue.depth:,}", age, queue.running, workers, queue.per_minute, *times, note)


def _seconds(ms: float | None) -> str:
    return "-" if ms is None else f"{ms / 1000:,.1f} s"
