"""`manage.py submit_jobs`: many jobs from a file, of one task, or as the mix of a load test."""

import json
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import IO, Any, cast
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, transaction
from rich.console import Console
from rich.table import Table

from jobs.bulk import submit_many
from jobs.drafting import Draft
from jobs.errors import InvalidJob, JobError, KeyBusy, QueueFull
from jobs.management import sources
from jobs.management.following import Followed, Row, follow, in_batches
from jobs.management.progress import progress
from jobs.management.sources import Read, Refused
from jobs.submission import write

JOBS_PER_TRANSACTION = 500
USAGE, INTERRUPTED = 2, 130
EPILOG = """\
A line of a file: {"task": "send_email", "payload": {...}}, and if wanted priority, idempotency_key,
run_at, tags, callback_url. In CSV these are columns, payload is JSON, tags are separated by ;.
Lines that cannot be jobs are named on stderr and left out (with --atomic: nothing is submitted).
A file whose lines have keys can be submitted again: nothing is made twice.
exit codes: 0 done; 1 a line was bad, or with --wait a job was lost; 2 bad usage"""


@dataclass
class Submitted:
    """What came of the lines; the ids only of what `--wait` follows."""

    new: int = 0
    already: int = 0
    refused: int = 0
    ids: dict[UUID, None] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        return self.new / self.seconds if self.seconds else 0.0


class Command(BaseCommand):
    help = "Submits jobs from a JSON Lines or CSV file (- for standard input), or made up by --task or --mix."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        kwargs |= {"epilog": EPILOG, "formatter_class": RawDescriptionHelpFormatter}
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", nargs="?", help="one job a line; - reads standard input")
        parser.add_argument("--format", choices=["jsonl", "csv"], help="when the file's name does not tell")
        parser.add_argument("--task", metavar="NAME", help="instead of a file: this task, --count times")
        parser.add_argument("--payload", metavar="JSON", default="{}", help="for --task")
        parser.add_argument("--count", type=int, default=1, metavar="N", help="for --task")
        parser.add_argument("--mix", type=int, metavar="N", help="instead of a file: N jobs of a load test")
        parser.add_argument("--atomic", action="store_true", help="all lines or none")
        parser.add_argument("--wait", action="store_true", help="follow the jobs to their end; count the lost")
        parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="for --wait (600)")
        parser.add_argument("--json", action="store_true", help="the summary as one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._submit_and_report(options)
        except InvalidJob as error:
            raise CommandError(f"{error}; nothing was submitted.", returncode=USAGE) from None
        except OperationalError as error:
            reason = str(error).strip().splitlines()[0]
            raise CommandError(f"PostgreSQL did not answer: {reason}. What was committed is kept.") from None
        except KeyboardInterrupt:
            raise CommandError("Interrupted. What was committed is kept.", returncode=INTERRUPTED) from None

    def _submit_and_report(self, options: dict[str, Any]) -> None:
        source, total = _lines(options)
        submitted = self._submit(source, total, atomic=options["atomic"], keep_ids=options["wait"])
        followed = _follow(submitted, options["timeout"]) if options["wait"] else None
        self._report(submitted, followed, as_json=options["json"])
        if submitted.refused:
            rest = "nothing was submitted" if options["atomic"] else "the others were submitted"
            lines = "1 bad line" if submitted.refused == 1 else f"{submitted.refused:,} bad lines"
            raise CommandError(f"{lines}; {rest}.")
        if followed and followed.lost:
            raise CommandError(f"{followed.lost:,} jobs are lost or not final after {followed.seconds:.0f} s.")

    def _submit(self, lines: Iterator[Read], total: int | None, *, atomic: bool, keep_ids: bool) -> Submitted:
        began, submitted = time.monotonic(), Submitted()
        with transaction.atomic() if atomic else nullcontext(), progress("Submitting", total) as tell:
            for some in in_batches(lines, JOBS_PER_TRANSACTION):
                self._submit_some(some, submitted, keep_ids=keep_ids)
                tell(submitted.new + submitted.already + submitted.refused)
            if atomic and submitted.refused:
                transaction.set_rollback(True)
                submitted = Submitted(refused=submitted.refused)
        submitted.seconds = time.monotonic() - began
        return submitted

    def _submit_some(self, lines: list[Read], submitted: Submitted, *, keep_ids: bool) -> None:
        drafts: list[tuple[int, Draft]] = []
        for line in lines:
            if isinstance(line, Refused):
                self._refuse(line, submitted)
            else:
                drafts.append(line)
        for number, written in _write(drafts):
            if isinstance(written, JobError):
                self._refuse(Refused(number, str(written)), submitted)
                continue
            job_id, replayed = written
            submitted.new += not replayed
            submitted.already += replayed
            if keep_ids:
                submitted.ids[job_id] = None

    def _refuse(self, line: Refused, submitted: Submitted) -> None:
        submitted.refused += 1
        self.stderr.write(str(line))

    def _report(self, submitted: Submitted, followed: Followed | None, *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(_summary(submitted, followed), indent=2))
            return
        rate = f"{submitted.per_second:,.0f} a second"
        self.stdout.write(f"submitted: {submitted.new:,} in {submitted.seconds:.1f} s ({rate})")
        self.stdout.write(f"already submitted: {submitted.already:,}")
        self.stdout.write(f"bad lines: {submitted.refused:,}")
        if followed:
            told = followed.as_json()
            rate = f"{told['finished_per_second']:,} a second"
            self.stdout.write(f"finished: {followed.finished:,} in {followed.seconds:.1f} s after that ({rate})\n\n")
            self._table(followed)
            self.stdout.write(f"lost = {followed.lost}")

    def _table(self, followed: Followed) -> None:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in fields(Row):
            table.add_column(_heading(column.name), justify="left" if column.type is str else "right")
        for row in followed.rows:
            table.add_row(*(f"{value:,}" if isinstance(value, int) else value for value in astuple(row)))
        Console(file=cast("IO[str]", self.stdout), width=None if self.stdout.isatty() else 120).print(table)


def _write(drafts: list[tuple[int, Draft]]) -> Iterator[tuple[int, tuple[UUID, bool] | JobError]]:
    """Write a chunk in one go; when that is refused as a whole, one by one, to learn which lines are at fault."""
    try:
        written = submit_many([draft for _, draft in drafts], atomic=False)
    except (KeyBusy, QueueFull):
        yield from _write_one_by_one(drafts)
        return
    for (number, _), each in zip(drafts, written, strict=True):
        yield number, each.error or (each.job_id, each.replayed)


def _write_one_by_one(drafts: list[tuple[int, Draft]]) -> Iterator[tuple[int, tuple[UUID, bool] | JobError]]:
    for number, draft in drafts:
        try:
            job = write(draft)
        except JobError as error:
            yield number, error
        else:
            yield number, (job.pk, job.replayed)


def _lines(options: dict[str, Any]) -> tuple[Iterator[Read], int | None]:
    """What to submit, and how much of it there is when that can be known."""
    if sum(options[name] is not None for name in ("file", "task", "mix")) != 1:
        raise CommandError("Give one of: a file (or -), --task, --mix.", returncode=USAGE)
    for name in ("count", "mix"):
        if options[name] is not None and options[name] < 1:
            raise CommandError(f"--{name} must be 1 or more.", returncode=USAGE)
    if options["mix"] is not None:
        return sources.mix(options["mix"]), options["mix"]
    if options["task"] is not None:
        return sources.repeated(options["task"], options["payload"], options["count"]), options["count"]
    return _lines_of_file(options["file"], options["format"])


def _lines_of_file(path: str, form: str | None) -> tuple[Iterator[Read], int | None]:
    form = form or ("jsonl" if path == sources.STDIN else sources.FORMATS.get(Path(path).suffix.lower()))
    if form is None:
        known = ", ".join(sources.FORMATS)
        raise CommandError(f"{path}: its name does not end in {known}; say --format.", returncode=USAGE)
    if path == sources.STDIN:
        return sources.from_file(path, form), None
    try:
        with Path(path).open("rb") as file:
            total = sum(1 for _ in file) - (form == "csv")
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}.", returncode=USAGE) from None
    return sources.from_file(path, form), total


def _follow(submitted: Submitted, timeout: float) -> Followed:
    with progress("Finished", len(submitted.ids)) as tell:
        return follow(list(submitted.ids), timeout=timeout, tell=tell)


def _summary(submitted: Submitted, followed: Followed | None) -> dict[str, Any]:
    counts = {"submitted": submitted.new, "already_submitted": submitted.already, "bad_lines": submitted.refused}
    rate = {"seconds": round(submitted.seconds, 2), "submitted_per_second": round(submitted.per_second, 1)}
    return counts | rate | (followed.as_json() if followed else {})


def _heading(column: str) -> str:
    return {"dead_lettered": "dead-lettered"}.get(column, column.replace("_", " "))
