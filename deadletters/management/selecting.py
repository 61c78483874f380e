"""Which letters a `dlq` command is about."""

import re
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from deadletters.models import DeadLetter
from deadletters.querysets import DeadLetterQuerySet

USAGE = 2
FILTERS = ("task", "queue", "cause", "fingerprint", "since", "until", "job")
AGO = re.compile(r"(\d{1,5})([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def add_filters(parser: ArgumentParser, *, limit: int | None) -> None:
    """The options that choose letters, the same for every verb."""
    parser.add_argument("letters", nargs="*", type=int, metavar="ID", help="dead letters by number")
    parser.add_argument("--task", help="of this task")
    parser.add_argument("--queue", help="of this queue")
    parser.add_argument("--cause", type=str.upper, choices=DeadLetter.Cause.values, help="ended for this cause")
    parser.add_argument("--fingerprint", help="of this group of like failures")
    parser.add_argument(
        "--since", type=moment, metavar="WHEN", help="not before: 2026-11-20, a time, or 90m, 2h, 7d ago"
    )
    parser.add_argument("--until", type=moment, metavar="WHEN", help="before")
    parser.add_argument("--job", type=job_id, metavar="UUID", help="of this job")
    status = parser.add_mutually_exclusive_group()
    for name in ("open", "resolved", "all"):
        status.add_argument(f"--{name}", dest="status", action="store_const", const=name, help=f"{name} letters")
    parser.add_argument("--limit", type=int, default=limit, metavar="N", help=f"at most N letters ({limit or 'all'})")


def chosen(options: dict[str, Any], *, status: str) -> DeadLetterQuerySet:
    """The letters meant, newest first. Letters named by number are taken whatever their status."""
    criteria = {name: options[name] for name in FILTERS}
    letters = DeadLetter.objects.matching(**criteria).select_related("job").order_by("-created_at", "-pk")
    if options["letters"]:
        letters = letters.filter(pk__in=options["letters"])
        status = "all"
    match options["status"] or status:
        case "open":
            letters = letters.open()
        case "resolved":
            letters = letters.resolved()
    if options["limit"] is not None and options["limit"] < 1:
        raise CommandError("--limit must be 1 or more.", returncode=USAGE)
    return letters[: options["limit"]]


def refuse_without_choice(options: dict[str, Any]) -> None:
    """A forgotten filter must not mean everything."""
    if not any(options[name] for name in (*FILTERS, "letters", "status")):
        raise CommandError("Say which: numbers, a filter, or --open / --resolved / --all.", returncode=USAGE)


def moment(text: str) -> datetime:
    """A time with or without zone (then UTC), a date, or how long ago."""
    if ago := AGO.fullmatch(text):
        return timezone.now() - timedelta(**{UNITS[ago[2]]: int(ago[1])})
    try:
        found = parse_datetime(text)
        day = parse_date(text)
    except ValueError:
        found = day = None
    if found is None and day is not None:
        found = datetime(day.year, day.month, day.day)
    if found is None:
        raise ArgumentTypeError(f"{text!r} is neither a time like 2026-11-20T03:00Z nor an age like 90m, 2h, 7d")
    return found if timezone.is_aware(found) else found.replace(tzinfo=UTC)


def job_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a job id") from None
