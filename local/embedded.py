"""The life of an embedded server process: one at a time per home, tied to its owner, stopped in order."""

import contextlib
import json
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import IO, ClassVar, Self

import psutil

from local.place import hold, write_private

# Crash recovery after a kill can take far longer than a normal start.
DEADLINE = 60.0


class ServerFailed(Exception):
    """An embedded server did not start."""


class EmbeddedServer(ABC):
    """Spawn and use it from one thread that lives as long as the server: Linux ties children to threads."""

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, home: Path) -> None:
        self.home = home
        self.process: subprocess.Popen[bytes] | None = None
        self._place: IO[str] | None = None

    @property
    def pid(self) -> int:
        if self.process is None:
            raise ServerFailed(f"{self.name} in {self.home} is not running.")
        return self.process.pid

    @property
    def log(self) -> Path:
        return self.home / "log"

    def start(self) -> None:
        """Start the server and return when it answers."""
        if self.is_running():
            raise ServerFailed(f"{self.name} in {self.home} is running already.")
        with contextlib.ExitStack() as undo:
            self._forget()
            undo.callback(self.kill)
            self._make_home()
            self._place = hold(self.home / "lock")
            self._stop_orphan()
            self._prepare()
            self.process = self._spawn()
            self._remember()
            self._await_answer()
            undo.pop_all()

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def has_ended(self) -> bool:
        """Whether it was started, and ended without being asked to."""
        return self.process is not None and self.process.poll() is not None

    def kill(self) -> None:
        """End the server as a crash would, and wait until nothing of it is left."""
        if self.process is not None:
            family = self._family()
            self.process.kill()
            # Frozen children could not notice that their parent is gone.
            self._signal(family[1:], signal.SIGCONT)
            self.process.wait()
            psutil.wait_procs(family[1:], timeout=DEADLINE)
        self._forget()

    def pause(self) -> None:
        """Freeze all its processes: connections stay open and nothing answers."""
        self._signal(self._family(), signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(reversed(self._family()), signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._end(self.stop_signal)

    @abstractmethod
    def _make_home(self) -> None: ...

    @abstractmethod
    def _prepare(self) -> None: ...

    @abstractmethod
    def _spawn(self) -> subprocess.Popen[bytes]: ...

    @abstractmethod
    def _answers(self) -> bool: ...

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        self.resume()
        self.process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(DEADLINE)
        self.kill()

    def _await_answer(self) -> None:
        deadline = time.monotonic() + DEADLINE
        while not self._answers():
            if self.process is None or self.process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailed(f"{self.name} did not start. The end of {self.log}:\n{self._last_lines()}")
            time.sleep(0.02)

    def _last_lines(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def _stop_orphan(self) -> None:
        """We hold the place, so a server that still runs here has lost its owner."""
        for process in self._remembered():
            family = [process, *process.children(recursive=True)]
            self._signal(reversed(family), signal.SIGCONT)
            self._signal([process], self.stop_signal)
            _, alive = psutil.wait_procs(family, timeout=DEADLINE)
            self._signal(alive, signal.SIGKILL)
            psutil.wait_procs(alive, timeout=DEADLINE)

    def _remember(self) -> None:
        started = psutil.Process(self.pid).create_time()
        write_private(self.home / "server.json", json.dumps({"pid": self.pid, "started": started}))

    def _remembered(self) -> Iterator[psutil.Process]:
        with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess):
            known = json.loads((self.home / "server.json").read_text())
            process = psutil.Process(known["pid"])
            # The number may have gone to another process since.
            if abs(process.create_time() - known["started"]) < 1:
                yield process

    def _forget(self) -> None:
        self.process = None
        if self._place is not None:
            (self.home / "server.json").unlink(missing_ok=True)
            self._place.close()
            self._place = None

    def _family(self) -> list[psutil.Process]:
        try:
            leader = psutil.Process(self.pid)
            return [leader, *leader.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    @staticmethod
    def _signal(processes: Iterator[psutil.Process] | list[psutil.Process], number: signal.Signals) -> None:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
