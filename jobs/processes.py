"""Which process this is, in terms that tell it from a later process with the same pid; and which worker."""

import os
import socket
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from uuid import UUID

from jobs.ids import uuid7


@dataclass
class Identity:
    """The worker this process is, or whose child it is; set before the pool forks, so children inherit it."""

    worker: UUID = field(default_factory=uuid7)
    name: str = ""


me = Identity()


@dataclass(frozen=True)
class Process:
    pid: int
    ticks: int


def this_process() -> Process:
    pid = os.getpid()
    return Process(pid, _own_ticks(pid))


def start_ticks(pid: int) -> int | None:
    """When a live process started, in clock ticks since boot; None when it is gone or a zombie.

    Field 22 of /proc/[pid]/stat, see proc(5); the name in field 2 may hold spaces and brackets.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def is_child_alive(pid: int, ticks: int | None) -> bool:
    """Whether `pid` is still the process that started at `ticks`."""
    found = start_ticks(pid)
    return found is not None and (ticks is None or found == ticks)


def host() -> str:
    return socket.gethostname()


def boot_id() -> str:
    """Changes with every boot; empty where the system does not tell."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def pid_namespace() -> str:
    """Pids are only comparable within one namespace; empty where the system does not tell."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


@cache
def _own_ticks(pid: int) -> int:
    return start_ticks(pid) or 0
