"""The processes of a run, under a small restarter that brings back what ended, as any supervisor would."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from local.children import spawn
from local.place import CHECKOUT

RESTART_AFTER = 1.0


@dataclass
class Member:
    """One place in the crew: a command, and the process that fills it just now."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    ended_at: float | None = None
    starts: int = 0
    codes: list[int] = field(default_factory=list)


class Crew:
    """Used from one thread that lives as long as the processes: Linux ties children to threads."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.members: dict[str, Member] = {}

    def enlist(self, name: str, *command: str, environment: Mapping[str, str]) -> None:
        """Start `python command...` and keep it running."""
        self.logs.mkdir(exist_ok=True)
        self.members[name] = Member(name, command, environment)
        self._start(self.members[name])

    def keep(self) -> None:
        """Start again what has ended a second ago; call it often."""
        for member in self.members.values():
            if member.process is None or member.process.poll() is None:
                continue
            if member.ended_at is None:
                member.ended_at = time.monotonic()
                member.codes.append(member.process.returncode)
            elif time.monotonic() - member.ended_at >= RESTART_AFTER:
                self._start(member)

    def names(self, prefix: str) -> list[str]:
        return sorted(name for name in self.members if name.startswith(prefix))

    def pid(self, name: str) -> int | None:
        """The pid of a member that is alive."""
        process = self.members[name].process if name in self.members else None
        return process.pid if process is not None and process.poll() is None else None

    def family(self, name: str) -> list[psutil.Process]:
        """A living member's process, then its children."""
        pid = self.pid(name)
        if pid is None:
            return []
        with suppress(psutil.NoSuchProcess):
            leader = psutil.Process(pid)
            return [leader, *leader.children()]
        return []

    def restarts(self, prefix: str = "") -> int:
        return sum(self.members[name].starts - 1 for name in self.names(prefix))

    def dismiss(self, name: str) -> None:
        """Kill a member and do not bring it back."""
        send(self.family(name), signal.SIGKILL)
        process = self.members.pop(name).process
        if process is not None:
            process.wait(timeout=30)

    def stop(self) -> None:
        for name in list(self.members):
            self.dismiss(name)

    @staticmethod
    def inherited() -> dict[str, str]:
        """Our own environment, less what would lead a plain Celery worker to Django."""
        return {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}

    def _start(self, member: Member) -> None:
        with (self.logs / f"{member.name}.log").open("ab") as log:
            member.process = spawn(
                [sys.executable, *member.command],
                death_signal=signal.SIGKILL,
                cwd=CHECKOUT,
                env={**self.inherited(), **member.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A Ctrl-C at the terminal is for us: we stop them after the run.
                process_group=0,
            )
        member.ended_at, member.starts = None, member.starts + 1


def send(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    """Signal processes, those that are gone already excepted."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
