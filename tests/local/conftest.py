"""Real programs on this machine: places, ports, processes, and waiting with a deadline."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from local import children
from local.place import CHECKOUT
from local.readiness import free_port

WaitFor = Callable[..., None]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that other accounts may pass, as pytest's own are not."""
    directory = Path(tempfile.mkdtemp(prefix="switchyard-"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def wait_for() -> WaitFor:
    def wait(condition: Callable[[], object], within: float = 15) -> None:
        deadline = time.monotonic() + within
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true in time"
            time.sleep(0.02)

    return wait


@pytest.fixture
def all_gone(wait_for: WaitFor) -> Callable[[list[int]], None]:
    """Wait until none of these processes exists any more."""

    def gone(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return lambda pids: wait_for(lambda: all(gone(pid) for pid in pids))


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Run a script or a module of ours as a process that ends with the test."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = children.spawn(
            [sys.executable, *arguments],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()
