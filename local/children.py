"""Child processes that do not outlive this one."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def tied(death_signal: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """Make a `preexec_fn`: the kernel signals the child when the thread that spawned it ends (Linux only)."""
    parent = os.getpid()

    def tie() -> None:
        if libc is None:
            return
        libc.prctl(PR_SET_PDEATHSIG, int(death_signal))
        # A parent that died between fork and prctl will never be noticed any more.
        if os.getppid() != parent:
            os._exit(1)

    return tie


def spawn(
    command: Sequence[str | Path], *, death_signal: signal.Signals = signal.SIGTERM, **options: Any
) -> subprocess.Popen[bytes]:
    """Start a child that gets `death_signal` when this thread ends; other options are Popen's."""
    # Safe beside threads: between fork and exec the hook makes two system calls and imports nothing.
    return subprocess.Popen(command, preexec_fn=tied(death_signal), **options)  # noqa: PLW1509


def run_in_foreground(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command on our terminal and return its exit code; a stop request meanwhile goes to it alone."""
    child = spawn(command, env=environment)

    def forward(number: int, _frame: FrameType | None) -> None:
        # A Ctrl-C at the terminal has reached the child already, and twice would cut its clean-up short.
        if number != signal.SIGINT or not os.isatty(0):
            child.send_signal(number)

    previous = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = child.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def stop_on_sigterm() -> None:
    """Let SIGTERM unwind the program as Ctrl-C does, so that `with` blocks stop what they started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
