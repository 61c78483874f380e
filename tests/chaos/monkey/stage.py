"""A private stage for one run: PostgreSQL, Redis, the ledger and the logs, all in a directory of their own."""

import contextlib
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import redis

from local.account import reachable_home
from local.place import CHECKOUT
from local.postgres import Postgres
from local.testing import POSTGRES_SETTINGS
from local.valkey import Valkey
from tests.chaos.monkey import ledger
from tests.chaos.monkey.crew import Crew

POLICIES = Path(__file__).with_name("policies.toml")


@dataclass
class Stage:
    directory: Path
    postgres: Postgres
    valkey: Valkey
    crew: Crew

    @property
    def ledger(self) -> Path:
        return self.directory / "ledger.sqlite"

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.valkey.url, socket_timeout=5, socket_connect_timeout=2)

    def database(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.postgres.url, autocommit=True, connect_timeout=3)

    def environment(self) -> dict[str, str]:
        """What every process of the project needs on this stage; production's numbers where nothing is said."""
        return {
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.valkey.url,
            "POLICIES_FILE": str(self.directory / "policies.toml"),
            "CELERY_SKIP_CHECKS": "1",
            "SECRET_KEY": secrets.token_urlsafe(48),
            "DEBUG": "1",
            "LOG_FORMAT": "plain",
            "LOG_LEVEL": "INFO",
            "DATA_DIR": str(self.directory),
            ledger.PLACE: str(self.ledger),
        }


@contextlib.contextmanager
def stage(*, keep_logs: bool = False) -> Iterator[Stage]:
    """Both servers up, an empty ledger; everything started in it is stopped at the end, by pid."""
    directory = Path(tempfile.mkdtemp(prefix="switchyard-monkey-"))
    # Passable for the account of a database server started by root.
    directory.chmod(0o711)
    crew = Crew(directory / "logs")
    with contextlib.ExitStack() as undo:
        undo.callback(_remove, directory, keep_logs)
        postgres = undo.enter_context(Postgres(directory / "postgres", settings=POSTGRES_SETTINGS))
        # A port, as nearly everybody's Redis has; an append-only file, so that a restart loses nothing.
        valkey = undo.enter_context(Valkey(directory / "valkey", port=_free_port()))
        undo.callback(crew.stop)
        ready = Stage(directory, postgres, valkey, crew)
        ledger.create(ready.ledger)
        shipped = (CHECKOUT / "config" / "policies.toml").read_text()
        (directory / "policies.toml").write_text(shipped + "\n" + POLICIES.read_text())
        yield ready


def _remove(directory: Path, keep_logs: bool) -> None:
    shutil.rmtree(reachable_home(directory / "postgres"), ignore_errors=True)
    if keep_logs:
        print(f"Logs and ledger are kept in {directory}")
        return
    shutil.rmtree(directory, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
