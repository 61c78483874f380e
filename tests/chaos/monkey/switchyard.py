"""Switchyard as a plan meets it: two workers and the solo one, two dispatchers, two beats."""

import importlib
import os
from types import ModuleType
from typing import Any

import django

from tests.chaos.monkey.evidence import Evidence, find_strays, install_audit, read_evidence
from tests.chaos.monkey.plan import Order
from tests.chaos.monkey.stage import Stage
from tests.chaos.monkey.systems import WORKER_SIZE, await_count

# The numbers of the fault tests: a fifth of production's.
FAST = {"HEARTBEAT_SECONDS": "1", "LEASE_SECONDS": "6", "TICKET_GRACE_SECONDS": "2", "DISPATCH_SECONDS": "0.25"}
LEASE = float(FAST["LEASE_SECONDS"])
STRAY_AFTER = LEASE + 10
QUEUES = ("high", "default", "low", "solo", "system")


class Switchyard:
    name = "Switchyard"
    queues: tuple[str, ...] = QUEUES

    def __init__(self, stage: Stage, numbers: dict[str, str] = FAST) -> None:
        """`numbers`: settings of liveness and dispatching; empty, the shipped ones."""
        self.stage = stage
        self.strays: list[str] = []
        self.environment = stage.environment() | numbers
        self.project = _enter_project(self.environment)

    def begin(self) -> None:
        install_audit(self.stage.postgres.url)
        self.project.schedule_ticks()
        for name in ("worker-1", "worker-2"):
            self.enlist_worker(name, "high,default,low,system", WORKER_SIZE)
        self.enlist_worker("solo", "solo", "1")
        for name in ("dispatcher-1", "dispatcher-2"):
            self.enlist_dispatcher(name)
        for name in ("beat-1", "beat-2"):
            self._enlist_celery(name, "beat", "-S", "jobs.ticks:TickScheduler")
        self.await_up(len(self.stage.crew.members))

    def enlist_worker(self, name: str, queues: str, size: str) -> None:
        options = ("-Q", queues, "-c", size, "-n", f"{name}@chaos", "-I", "tests.chaos.monkey.tasks")
        self._enlist_celery(name, "worker", *options)

    def enlist_dispatcher(self, name: str) -> None:
        command = ("manage.py", "dispatcher", "--name", name, "--skip-checks")
        self.stage.crew.enlist(name, *command, environment=self.environment)

    def await_up(self, members: int) -> None:
        await_count(lambda: self.ask("SELECT count(*) FROM jobs_worker WHERE state = 'UP'"), members)

    def submit(self, order: Order) -> str:
        return str(self.project.submit(order))

    def cancel(self, job: str) -> None:
        self.project.cancel(job)

    def finished(self) -> int:
        return int(self.ask("SELECT count(*) FROM jobs_job WHERE finished_at IS NOT NULL"))

    def unfinished(self, accepted: dict[str, str]) -> int:
        """Beat goes on submitting, so its jobs are not waited for."""
        return int(self.ask("SELECT count(*) FROM jobs_job WHERE finished_at IS NULL AND schedule IS NULL"))

    def look(self) -> None:
        with self.stage.database() as connection:
            self.strays += find_strays(connection, older_than=STRAY_AFTER)

    def evidence(self, accepted: dict[str, str]) -> Evidence:
        return read_evidence(self.stage.postgres.url, self.stage.ledger, accepted, self.strays)

    def ask(self, question: str) -> Any:
        """The one value that a query gives."""
        with self.stage.database() as connection:
            return connection.execute(question.encode()).fetchone()[0]  # type: ignore[index]

    def _enlist_celery(self, name: str, program: str, *options: str) -> None:
        command = ("-m", "celery", "-A", "config", program, *options, "--loglevel", "INFO")
        self.stage.crew.enlist(name, *command, environment=self.environment)


def _enter_project(environment: dict[str, str]) -> ModuleType:
    """Make this very process one of the project on this stage, with the database migrated."""
    os.environ.update(environment | {"LOG_LEVEL": "CRITICAL", "DJANGO_SETTINGS_MODULE": "config.settings"})
    django.setup()
    importlib.import_module("config.celery")
    project = importlib.import_module("tests.chaos.monkey.project")
    project.migrate()
    return project
