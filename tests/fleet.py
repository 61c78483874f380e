"""Real worker, dispatcher and beat processes for the stories, on the test database."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psutil
from django.conf import settings
from django.db import connection

from jobs.models import Worker
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parent.parent
FAST = {"HEARTBEAT_SECONDS": "1", "LEASE_SECONDS": "6", "TICKET_GRACE_SECONDS": "2", "DISPATCH_SECONDS": "0.25"}


def database_url() -> str:
    """The test database as the processes must be told of it."""
    given = connection.settings_dict
    query = urlencode({"host": given["HOST"]} if given["HOST"].startswith("/") else {})
    place = "" if query else f"{given['HOST']}:{given['PORT']}" if given["PORT"] else given["HOST"]
    login = f"{quote(given['USER'])}:{quote(given['PASSWORD'])}@"
    return f"postgresql://{login}{place}/{given['NAME']}" + (f"?{query}" if query else "")


class Fleet:
    """Starts processes, waits until they have enlisted, and ends every one of them."""

    def __init__(self, logs: Path, **environment: str) -> None:
        self.logs = logs
        self.environment = {
            **FAST,
            "LOG_FORMAT": "plain",
            "DEBUG": "1",
            "SECRET_KEY": settings.SECRET_KEY,
        } | environment
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def worker(self, name: str = "w", *, queues: str = "high,default,low,solo,system", size: int = 2) -> Worker:
        command = ["-m", "celery", "-A", "config", "worker", "-Q", queues, "-c", str(size), "-n", f"{name}@test"]
        return self.start(name, [*command, "--loglevel", "INFO"], row=f"{name}@test")

    def dispatcher(self, name: str = "dispatcher") -> Worker:
        return self.start(name, ["manage.py", "dispatcher", "--name", name, "--skip-checks"], row=name)

    def start(self, name: str, command: list[str], *, row: str) -> Worker:
        """Start `python command` and return its Worker row once it is UP."""
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=self._environment(), stdout=log, stderr=log
            )
        self.processes[name] = process
        return eventually(lambda: self._row(row, process), within=60, what=f"{name} to enlist")

    def pid(self, name: str) -> int:
        return self.processes[name].pid

    def children(self, name: str) -> list[int]:
        return [child.pid for child in psutil.Process(self.pid(name)).children()]

    def log(self, name: str) -> str:
        return (self.logs / f"{name}.log").read_text(errors="replace")

    def kill(self, name: str, how: int = signal.SIGKILL, *, wait: bool = True) -> int | None:
        process = self.processes[name]
        process.send_signal(how)
        return process.wait(timeout=90) if wait else None

    def stop(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
        for process in self.processes.values():
            process.wait(timeout=30)

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
        return inherited | {"DATABASE_URL": database_url(), "REDIS_URL": settings.REDIS_URL} | self.environment

    def _row(self, name: str, process: subprocess.Popen[bytes]) -> Any:
        if process.poll() is not None:
            raise AssertionError(f"{name} ended with {process.returncode}; see its log in {self.logs}")
        return Worker.objects.filter(name=name, state=Worker.State.UP, pid=process.pid).first()
