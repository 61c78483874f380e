"""Whom a fault hits: the choice in the plan, applied to what is there at that moment."""

from collections.abc import Sequence
from typing import TypeVar

import psutil

from tests.chaos.monkey import ledger
from tests.chaos.monkey.systems import System

T = TypeVar("T")
LATEST = 20


def pick(among: Sequence[T], choice: float) -> T | None:
    return among[int(choice * len(among))] if among else None


def worker_child(system: System, choice: float) -> psutil.Process | None:
    """A worker's child, one that is in the middle of a body if there is any."""
    crew = system.stage.crew
    children = [child for name in crew.names("worker") for child in crew.family(name)[1:] if _lives(child)]
    busy = set(ledger.busy_pids(ledger.read(system.stage.ledger)))
    return pick([child for child in children if child.pid in busy] or children, choice)


def job_to_cancel(accepted: dict[str, str], choice: float) -> str | None:
    """One of those submitted last, which are likely to be waiting or running."""
    return pick(list(accepted.values())[-LATEST:], choice)


def _lives(child: psutil.Process) -> bool:
    """A parent may take seconds to bury a child that was killed."""
    try:
        return child.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
