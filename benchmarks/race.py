"""One run of one system: fill it, start its workers, watch the marks."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import marks
from benchmarks.systems import System

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 180.0
LATENCY_JOBS = 60
SINGLE_SUBMITS = 3000
# Of PostgreSQL: no checkpoint in the middle of a run.
SETTINGS = {"max_wal_size": "8GB"}


@dataclass(frozen=True)
class Place:
    """Where it runs: the servers' addresses, both Pythons, a directory for marks and logs."""

    environment: dict[str, str]
    own_python: Path
    peers_python: Path
    directory: Path

    @property
    def marks(self) -> Path:
        return self.directory / "marks"

    def python(self, system: System) -> str:
        return str(self.peers_python if system.peer else self.own_python)

    def surroundings(self, system: System) -> dict[str, str]:
        return {**self.environment, "BENCH_MARKS": str(self.marks), **system.environment}


@dataclass(frozen=True)
class Result:
    """Jobs a second, milliseconds, MiB; None where a system has no such thing."""

    submit: float | None = None
    bulk: float | None = None
    process: float | None = None
    p50: float | None = None
    p95: float | None = None
    rss: float | None = None


def measure(system: System, place: Place) -> Result:
    """Everything about one system, once."""
    drive(system, place, "prepare")
    submit = submission(system, place).submit
    drive(system, place, "prepare")
    bulk = _rate(drive(system, place, "bulk", system.jobs), system.jobs) if system.has_bulk else None
    if bulk is None:
        drive(system, place, "submit", system.jobs)
    process, rss = _process(system, place)
    p50, p95 = _latency(system, place) if system.has_latency else (None, None)
    return Result(submit, bulk, process, p50, p95, rss)


def submission(system: System, place: Place, *, bulk: int = 0) -> Result:
    """How fast jobs are submitted one at a time, and many at once."""
    submit = _rate(drive(system, place, "submit", SINGLE_SUBMITS), SINGLE_SUBMITS)
    return Result(submit, _rate(drive(system, place, "bulk", bulk), bulk) if bulk else None)


def drive(system: System, place: Place, verb: str, number: int = 0) -> str:
    """Run the system's own module; what it printed."""
    command = [place.python(system), "-m", system.module, verb, str(number)]
    done = subprocess.run(
        command, cwd=ROOT, env=place.surroundings(system), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{system.name}: {verb} failed\n{done.stderr[-2000:]}")
    return done.stdout.strip().rpartition("\n")[2]


@contextmanager
def at_work(system: System, place: Place) -> Iterator[list[psutil.Process]]:
    """The system's workers, ended when the block ends."""
    marks.erase(place.marks)
    running = [_start(system, place, command) for command in system.workers]
    try:
        yield running
    finally:
        for each in running:
            _end(each)


def wait_for(jobs: int, place: Place, running: list[psutil.Process]) -> marks.Seen:
    """What was marked once all jobs are done; raises when they are not in time, or a worker ended."""
    deadline = time.monotonic() + LONGEST
    while (seen := marks.seen(place.marks)).jobs < jobs:
        if time.monotonic() > deadline or not all(each.is_running() for each in running):
            raise RuntimeError(f"{seen.jobs} of {jobs} jobs ran; see {place.directory}")
        time.sleep(0.1)
    return seen


def _process(system: System, place: Place) -> tuple[float, float]:
    with at_work(system, place) as running:
        seen = wait_for(system.jobs, place, running)
        rss = _largest_worker(place)
        recorded, seconds = (_recorded(system, place), seen.last - seen.first)
    return system.jobs / (recorded or seconds), rss


def _recorded(system: System, place: Place) -> float | None:
    """For our own systems the rows tell: from the first claim to the last settlement."""
    if system.peer:
        return None
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found, seconds = drive(system, place, "window").split()
        if int(found) >= system.jobs:
            return float(seconds)
        time.sleep(0.2)
    raise RuntimeError(f"{system.name}: only {found} of {system.jobs} were recorded")


def _latency(system: System, place: Place) -> tuple[float, float]:
    """Warm workers on an idle system; the first jobs pay for what is done once and do not count."""
    drive(system, place, "prepare")
    with at_work(system, place):
        time.sleep(4)
        drive(system, place, "latency", LATENCY_JOBS)
        found = sorted(marks.latencies(place.marks)[10:])
    return 1000 * found[len(found) // 2], 1000 * found[int(len(found) * 0.95)]


def _largest_worker(place: Place) -> float:
    """The most a process that ran jobs ever held, in MiB."""
    peaks = []
    for path in place.marks.glob("*.mark"):
        status = Path(f"/proc/{path.stem}/status")
        if status.exists():
            [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
            peaks.append(int(line.split()[1]) / 1024)
    return max(peaks, default=0.0)


def _rate(printed: str, jobs: int) -> float | None:
    return jobs / float(printed) if printed else None


def _start(system: System, place: Place, command: tuple[str, ...]) -> psutil.Process:
    with (place.directory / "workers.log").open("ab") as log:
        process = subprocess.Popen(
            [place.python(system), *command], cwd=ROOT, env=place.surroundings(system), stdout=log, stderr=log
        )
    return psutil.Process(process.pid)


def _end(process: psutil.Process) -> None:
    family = [process, *process.children(recursive=True)] if process.is_running() else []
    for number in (signal.SIGTERM, signal.SIGKILL):
        for each in family[:1] if number == signal.SIGTERM else family:
            try:
                each.send_signal(number)
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(family, timeout=6)
    if process.is_running():
        os.waitpid(process.pid, os.WNOHANG)
