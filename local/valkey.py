"""An embedded Valkey (Redis-compatible): a socket in a private directory and a life tied to its owner."""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import redis

from local.account import private_directory, socket_directory
from local.binaries import redis_server
from local.children import spawn
from local.embedded import EmbeddedServer

DURABLE = {"appendonly": "yes", "appendfsync": "everysec"}
IN_MEMORY = {"appendonly": "no"}


class Valkey(EmbeddedServer):
    """`Valkey(directory)` listens on a unix socket only; with `port` it listens on 127.0.0.1 as well."""

    name = "Valkey"
    stop_signal = signal.SIGTERM

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        persistence: bool = True,
        settings: Mapping[str, str | int] | None = None,
    ) -> None:
        super().__init__(directory.absolute())
        self.tcp_port = port
        self.sockets = socket_directory(self.home, "valkey.sock")
        self.settings = {
            "maxmemory-policy": "noeviction",
            "save": "",
            **(DURABLE if persistence else IN_MEMORY),
            **(settings or {}),
        }

    @property
    def socket(self) -> Path:
        return self.sockets / "valkey.sock"

    @property
    def url(self) -> str:
        """REDIS_URL, in redis-py's form."""
        if self.tcp_port:
            return f"redis://127.0.0.1:{self.tcp_port}/0"
        return f"unix://{quote(str(self.socket))}?db=0"

    @property
    def celery_url(self) -> str:
        """The same server in the form that Celery's broker setting takes."""
        if self.tcp_port:
            return self.url
        return f"redis+socket://{quote(str(self.socket))}?virtual_host=0"

    def stop(self) -> None:
        self._end(self.stop_signal)

    def restart(self) -> None:
        self.stop()
        self.start()

    def erase(self) -> None:
        """Stop it and delete its data."""
        self.kill()
        shutil.rmtree(self.home)
        if self.sockets.exists():
            shutil.rmtree(self.sockets)

    def _make_home(self) -> None:
        private_directory(self.home, None)
        private_directory(self.sockets, None)

    def _prepare(self) -> None:
        self.socket.unlink(missing_ok=True)

    def _spawn(self) -> subprocess.Popen[bytes]:
        settings = {
            "port": self.tcp_port or 0,
            "bind": "127.0.0.1",
            "unixsocket": self.socket,
            "unixsocketperm": "700",
            "dir": self.home,
            **self.settings,
        }
        options = [part for key, value in settings.items() for part in (f"--{key}", str(value))]
        with self.log.open("ab") as log:
            return spawn(
                [redis_server(), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                env={"PATH": os.environ.get("PATH", os.defpath)},
                # A Ctrl-C at the terminal is for us: we stop the server after its clients.
                process_group=0,
                death_signal=self.stop_signal,
            )

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=5) as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False
