"""Real worker, dispatcher and beat processes for the stories, on the test database."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import psutil
from django.conf import settings
from django.db import connection

from jobs.models import Worker
from jobs.processes import host
from local.readiness import free_port
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

    def __init__(self, logs: Path, *, root: Path = ROOT, **environment: str) -> None:
        self.logs = logs
        self.root = root
        self.environment = {
            **FAST,
            "LOG_FORMAT": "plain",
            "DEBUG": "1",
            "SECRET_KEY": settings.SECRET_KEY,
        } | environment
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def worker(
        self,
        name: str = "w",
        *,
        queues: str = "high,default,low,solo,system",
        size: int = 2,
        include: str = "",
        arguments: Sequence[str] = (),
    ) -> Worker:
        self.launch_worker(name, queues=queues, size=size, include=include, arguments=arguments)
        return self.enlisted(name)

    def launch_worker(
        self, name: str, *, queues: str, size: int, include: str = "", arguments: Sequence[str] = ()
    ) -> None:
        command = ["-m", "celery", "-A", "config", "worker", "-Q", queues, "-c", str(size), "-n", f"{name}@test"]
        command += ["-I", include] if include else []
        self.launch(name, [*command, "--loglevel", "INFO", *arguments])

    def dispatcher(self, name: str = "dispatcher") -> Worker:
        return self.start(name, ["manage.py", "dispatcher", "--name", name, "--skip-checks"], row=name)

    def web(self, name: str = "web", *, access_log: bool = False, **environment: str) -> str:
        """A web process; the address it answers at."""
        port = free_port()
        before, self.environment = self.environment, self.environment | environment
        quiet = [] if access_log else ["--no-access-log"]
        self.launch(name, ["-m", "uvicorn", "config.asgi:application", "--port", str(port), *quiet])
        self.environment = before
        address = f"http://127.0.0.1:{port}"
        eventually(lambda: _answers(address), within=60, what=f"{name} to answer")
        return address

    def beat(self, name: str = "beat") -> Worker:
        return self.start(name, ["-m", "celery", "-A", "config", "beat"], row=f"beat@{host()}")

    def start(self, name: str, command: list[str], *, row: str) -> Worker:
        """Start `python command` and return its Worker row once it is UP."""
        self.launch(name, command)
        return self.enlisted(name, row=row)

    def launch(self, name: str, command: list[str]) -> None:
        """Start `python command` without waiting for it."""
        with (self.logs / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *command], cwd=self.root, env=self._environment(), stdout=log, stderr=log
            )

    def enlisted(self, name: str, *, row: str = "") -> Worker:
        """The row of a launched process, by default a worker, once it is UP."""
        process = self.processes[name]
        return eventually(lambda: self._row(row or f"{name}@test", process), within=60, what=f"{name} to enlist")

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


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/healthz", trust_env=False).is_success
    except httpx.TransportError:
        return False
