"""An embedded PostgreSQL: its own data, password and unix socket, and a life tied to its owner."""

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlencode

import psutil
import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from local.account import (
    private_directory,
    reachable_binaries,
    reachable_home,
    server_account,
    socket_directory,
)
from local.binaries import postgres_bin
from local.children import spawn
from local.embedded import DEADLINE, EmbeddedServer, ServerFailed
from local.place import write_private

NAME = "switchyard"
SOCKET_PORT = 5432

Settings = Mapping[str, str | int]
StopMode = Literal["fast", "immediate", "smart"]
SIGNALS: dict[StopMode, signal.Signals] = {
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
    "smart": signal.SIGTERM,
}


class Postgres(EmbeddedServer):
    """`Postgres(directory)` listens on a unix socket only; with `port` it listens on 127.0.0.1 as well."""

    name = "PostgreSQL"
    stop_signal = SIGNALS["fast"]

    def __init__(self, directory: Path, *, port: int | None = None, settings: Settings | None = None) -> None:
        super().__init__(reachable_home(directory))
        self.data = self.home / "data"
        self.tcp_port = port
        self.settings: Settings = {"max_connections": 150, **(settings or {})}
        self.sockets = socket_directory(self.home, f".s.PGSQL.{self.port}")
        self.account = server_account(self.data)

    @property
    def host(self) -> str:
        return "127.0.0.1" if self.tcp_port else str(self.sockets)

    @property
    def port(self) -> int:
        return self.tcp_port or SOCKET_PORT

    @property
    def url(self) -> str:
        """DATABASE_URL, in the form libpq understands: a socket's directory is the query's `host`."""
        user = f"{NAME}:{quote(self.password)}"
        if self.tcp_port:
            return f"postgresql://{user}@{self.host}:{self.port}/{NAME}"
        return f"postgresql://{user}@/{NAME}?{urlencode({'host': self.host})}"

    @property
    def password(self) -> str:
        return (self.home / "password").read_text()

    def stop(self, mode: StopMode = "fast") -> None:
        self._end(SIGNALS[mode])

    def restart(self, mode: StopMode = "fast") -> None:
        self.stop(mode)
        self.start()

    def erase(self) -> None:
        """Stop it and delete its data."""
        self.stop("immediate")
        shutil.rmtree(self.home)
        if self.sockets.exists():
            shutil.rmtree(self.sockets)

    def _make_home(self) -> None:
        private_directory(self.home, self.account)
        private_directory(self.sockets, self.account)

    def _prepare(self) -> None:
        self.binaries = postgres_bin()
        if self.account:
            self.binaries = reachable_binaries(self.binaries, self.account)
        if not self.data.exists():
            self._initialise()
        made_by = (self.data / "PG_VERSION").read_text().strip()
        if made_by != str(self._major()):
            raise ServerFailed(
                f"{self.data} was made by PostgreSQL {made_by}, but {self.binaries} is {self._major()}: "
                f"point SWITCHYARD_POSTGRES_BIN to a PostgreSQL {made_by}, or remove the directory."
            )
        self._await_leftovers()

    def _await_leftovers(self) -> None:
        """Backends of a killed server keep its memory for a moment, and a new one refuses to start."""
        if (self.data / "postmaster.pid").exists():
            inside = [process for process in psutil.process_iter() if _working_directory(process) == self.data]
            self._signal(inside, signal.SIGCONT)
            psutil.wait_procs(inside, timeout=DEADLINE)

    def _initialise(self) -> None:
        """Build under another name, so that an interrupted attempt is never taken for a data directory."""
        draft, password = self.home / "data.new", self.home / "password"
        shutil.rmtree(draft, ignore_errors=True)
        write_private(password, secrets.token_hex(24))
        if self.account:
            self.account.owns(password)
        initdb = [str(self.binaries / "initdb"), "-D", str(draft), "-U", NAME, "--auth=scram-sha-256"]
        initdb += [f"--pwfile={password}", "--encoding=UTF8", "--no-instructions", *self._locale()]
        with self.log.open("ab") as log:
            code = spawn(initdb, stdout=log, stderr=log, **self._surroundings()).wait()
        if code != 0:
            raise ServerFailed(f"initdb failed. The end of {self.log}:\n{self._last_lines()}")
        draft.replace(self.data)

    def _locale(self) -> list[str]:
        """The builtin provider sorts alike on every machine; PostgreSQL below 17 does not know it."""
        if self._major() >= 17:
            return ["--locale-provider=builtin", "--locale=C.UTF-8"]
        return ["--locale=C"]

    def _major(self) -> int:
        version = subprocess.run([self.binaries / "postgres", "--version"], capture_output=True, text=True, check=True)
        return int(version.stdout.split()[2].split(".")[0])

    def _spawn(self) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addresses": "127.0.0.1" if self.tcp_port else "",
            "port": self.port,
            "unix_socket_directories": self.sockets,
            **self.settings,
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        with self.log.open("ab") as log:
            return spawn(
                [self.binaries / "postgres", "-D", self.data, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A Ctrl-C at the terminal is for us: we stop the server after its clients.
                process_group=0,
                death_signal=self.stop_signal,
                **self._surroundings(),
            )

    def _surroundings(self) -> dict[str, Any]:
        place = {"cwd": self.home, "env": {"PATH": os.environ.get("PATH", os.defpath)}}
        if self.account is None:
            return place
        return {**place, "user": self.account.uid, "group": self.account.gid, "extra_groups": []}

    def _answers(self) -> bool:
        maintenance = make_conninfo(self.url, dbname="postgres", connect_timeout=5)
        try:
            with psycopg.connect(maintenance, autocommit=True) as connection:
                found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [NAME]).fetchone()
                if found is None:
                    connection.execute(SQL("CREATE DATABASE {}").format(Identifier(NAME)))
        except psycopg.OperationalError:
            return False
        return True


def _working_directory(process: psutil.Process) -> Path | None:
    try:
        return Path(process.cwd())
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return None
