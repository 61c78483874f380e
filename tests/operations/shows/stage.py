"""A migrated database, a fleet, and what the shows ask about their jobs."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management import call_command

from jobs.bulk import submit_many
from jobs.drafting import draft
from jobs.models import Job
from monitoring.history import samples
from monitoring.metrics import JobCollector
from tests.fleet import Fleet

BEGAN = time.monotonic()


@contextmanager
def fleet(**environment: str) -> Iterator[Fleet]:
    call_command("migrate", interactive=False, verbosity=0)
    ships = Fleet(Path(os.environ["SHOW_LOGS"]), **environment)
    try:
        yield ships
    finally:
        ships.stop()


def say(text: str) -> None:
    print(f"{time.monotonic() - BEGAN:6.1f} s  {text}", flush=True)


def submit(count: int, task: str, payload: dict[str, Any], **options: Any) -> None:
    submit_many([draft(task, payload, **options) for _ in range(count)])


def metric(name: str) -> float:
    """The sum of a metric over all its labels."""
    return sum(samples(JobCollector().collect()).get(f"switchyard_{name}", {}).values())


def unfinished() -> int:
    return Job.objects.unfinished().count()


def verdict(**claims: bool) -> None:
    """Print what was claimed and leave with 1 when something does not hold."""
    for claim, holds in claims.items():
        say(f"{'holds ' if holds else 'FAILS '} {claim.replace('_', ' ')}")
    sys.exit(0 if all(claims.values()) else 1)
