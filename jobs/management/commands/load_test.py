"""`manage.py load_test`: many jobs on the running stack, followed to the end and accounted for."""

import json
import time
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from jobs.bulk import submit_in_chunks
from jobs.drafting import Draft, draft
from jobs.management import sources
from jobs.management.following import Followed, follow, in_batches
from jobs.management.progress import progress
from jobs.management.sources import Refused

# high, default and low get two, six and two of ten.
SHARES = (("high", 2), ("default", 6), ("low", 2))
AT_ONCE = 5000
# An attempt beyond those that were recorded means that a job ran twice and nobody knows.
_TIMES = """
SELECT extract(epoch FROM started_at - run_at)::float, extract(epoch FROM finished_at - started_at)::float,
       attempt - (state = 'SUCCESS')::int - (SELECT count(*) FROM jobs_attempt AS a WHERE a.job_id = job.id)
  FROM jobs_job AS job WHERE id = ANY(%s) AND finished_at IS NOT NULL
"""


class Times(NamedTuple):
    waits: list[float]
    runs: list[float]
    duplicates: int


class Command(BaseCommand):
    help = "Submits jobs to high, default and low (2 : 6 : 2), follows them, and says what became of every one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--jobs", type=int, default=10_000, metavar="N")
        parser.add_argument("--task", help="this task with --payload on all queues; else the mix of submit_jobs --mix")
        parser.add_argument("--payload", default="{}", metavar="JSON", help="for --task")
        parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["jobs"] < 10:
            raise CommandError("--jobs must be 10 or more.", returncode=2)
        ids = self._submit(_by_queue(options))
        began = time.monotonic()
        with progress("Finished", len(ids)) as tell:
            followed = follow(ids, timeout=options["timeout"], tell=tell)
        times = _times(ids)
        self._report(followed, times, seconds=time.monotonic() - began)
        if followed.lost or times.duplicates:
            raise CommandError(f"{followed.lost} lost, {times.duplicates} duplicates.")

    def _submit(self, by_queue: dict[str, list[Draft]]) -> list[UUID]:
        ids, spent = [], 0.0
        for queue, drafts in by_queue.items():
            began = time.monotonic()
            ids += [each.job_id for chunk in submit_in_chunks(drafts) for each in chunk]
            seconds = time.monotonic() - began
            spent += seconds
            self.stdout.write(f"{queue:8} {len(drafts):7,} submitted, {len(drafts) / seconds:8,.0f} a second")
        self.stdout.write(f"{'all':8} {len(ids):7,} submitted, {len(ids) / spent:8,.0f} a second")
        return ids

    def _report(self, followed: Followed, times: Times, *, seconds: float) -> None:
        self.stdout.write(
            f"processing: {followed.finished:,} in {seconds:.1f} s, {followed.finished / seconds:,.0f} a second"
        )
        for name, values in (("wait", times.waits), ("run", times.runs)):
            p50, p95, p99 = (f"{1000 * _percentile(values, part):,.1f}" for part in (0.50, 0.95, 0.99))
            self.stdout.write(f"{name:5} p50 {p50} ms, p95 {p95} ms, p99 {p99} ms")
        self.stdout.write(f"dead letters = {sum(row.dead_lettered for row in followed.rows)}")
        self.stdout.write(f"lost = {followed.lost}")
        self.stdout.write(f"duplicates = {times.duplicates}")


def _by_queue(options: dict[str, Any]) -> dict[str, list[Draft]]:
    """Checked before the clock starts, as a caller's own code would have done."""
    if options["task"] is None:
        return _grouped(each[1] for each in sources.mix(options["jobs"]) if not isinstance(each, Refused))
    tenth, payload = options["jobs"] // 10, json.loads(options["payload"])
    counts = {queue: share * tenth for queue, share in SHARES}
    counts["default"] += options["jobs"] - 10 * tenth
    return {queue: [draft(options["task"], payload, queue=queue) for _ in range(n)] for queue, n in counts.items()}


def _grouped(drafts: Iterable[Draft]) -> dict[str, list[Draft]]:
    found: dict[str, list[Draft]] = defaultdict(list)
    for each in drafts:
        found[each.queue].append(each)
    return {queue: found[queue] for queue in settings.PRIORITIES if found[queue]}


def _times(ids: Sequence[UUID]) -> Times:
    waits, runs, duplicates = [], [], len(ids) - len(set(ids))
    with connection.cursor() as cursor:
        for some in in_batches(ids, AT_ONCE):
            cursor.execute(_TIMES, [some])
            for wait, run, unaccounted in cursor.fetchall():
                waits.append(wait or 0.0)
                runs.append(run or 0.0)
                duplicates += max(0, unaccounted)
    return Times(sorted(waits), sorted(runs), duplicates)


def _percentile(values: list[float], part: float) -> float:
    return values[min(len(values) - 1, int(part * len(values)))] if values else 0.0
