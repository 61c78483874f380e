"""Starts services stage by stage, restarts those that may fail, and stops all in the opposite order."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

from local import lifeline
from local.children import tied
from local.console import Console
from local.readiness import Readiness

PATIENT_STOP = ((signal.SIGTERM, 10.0),)
LONGEST_LINE = 1 << 20


@dataclass(frozen=True)
class Backoff:
    """How long to wait before the next try of a service that keeps failing."""

    first: float = 0.5
    longest: float = 30.0
    # A service that lived this long starts a new count.
    healthy_after: float = 20.0
    loop_at: int = 5

    def delay(self, failures: int) -> float:
        return min(self.longest, self.first * 2.0 ** (failures - 1))


@dataclass(frozen=True)
class Service:
    name: str
    command: Sequence[str]
    stage: int
    environment: Mapping[str, str] = field(default_factory=dict)
    restarts: bool = True
    ready: Readiness | None = None
    ready_within: float = 60.0
    stop: Sequence[tuple[signal.Signals, float]] = PATIENT_STOP


class ServiceFailed(Exception):
    """A service that everything else needs did not start, or ended."""

    def __init__(self, service: Service, what: str) -> None:
        super().__init__(f"{service.name} {what}")
        self.service = service


class Supervisor:
    """Runs in the main thread, which must outlive the services: Linux ties children to threads."""

    def __init__(self, console: Console, *, backoff: Backoff | None = None) -> None:
        self.console = console
        self.backoff = backoff or Backoff()
        self.processes: dict[str, Process] = {}
        self._services: list[Service] = []
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stopping = False
        self._hurry = asyncio.Event()
        self._lifeline = subprocess.Popen(
            [sys.executable, lifeline.__file__], stdin=subprocess.PIPE, bufsize=0, process_group=0
        )

    async def start(self, services: Iterable[Service]) -> None:
        """Start every stage when the ones before it are ready."""
        by_stage = attrgetter("stage")
        for _, stage in groupby(sorted(services, key=by_stage), key=by_stage):
            members = list(stage)
            for service in members:
                self._services.append(service)
                keeper = asyncio.create_task(self._keep(service))
                keeper.add_done_callback(self._notice)
                self._keepers[service.name] = keeper
            await asyncio.gather(*(self._await_ready(service) for service in members))

    async def watch(self) -> None:
        """Return never: raise ServiceFailed when a service that is not restarted has ended."""
        await asyncio.shield(self._failure)

    def hurry(self) -> None:
        """Stop waiting for anybody: kill what is left."""
        self._hurry.set()

    async def stop(self) -> None:
        """Stop the stages in the opposite order, each after the one before it has ended."""
        self._stopping = True
        by_stage = attrgetter("stage")
        for _, stage in groupby(sorted(self._services, key=by_stage, reverse=True), key=by_stage):
            await asyncio.gather(*(self._stop(service) for service in stage))
        self._failure.cancel()
        self._lifeline.communicate()

    async def _keep(self, service: Service) -> None:
        failures = 0
        while True:
            started = time.monotonic()
            code = await self._run(service)
            if self._stopping:
                return
            if not service.restarts:
                self._fail(ServiceFailed(service, f"ended with {_outcome(code)}."))
                return
            lived = time.monotonic() - started
            failures = 1 if lived >= self.backoff.healthy_after else failures + 1
            delay = self.backoff.delay(failures)
            self.console.say(self._restart_notice(service, code, failures, delay))
            await asyncio.sleep(delay)

    async def _run(self, service: Service) -> int:
        # A pipe of our own: asyncio's would have wait() wait for everybody who still holds its other end.
        output, pipe = os.pipe()
        with os.fdopen(pipe, "wb") as stdout:
            process = await asyncio.create_subprocess_exec(
                *service.command,
                env={**os.environ, **service.environment},
                stdin=DEVNULL,
                stdout=stdout,
                stderr=STDOUT,
                # A Ctrl-C at the terminal is for us: we stop services in order.
                process_group=0,
                preexec_fn=tied(),
            )
        self.processes[service.name] = process
        self._tell_lifeline(f"+{process.pid}")
        listening = asyncio.create_task(self._listen(service, output))
        code = await process.wait()
        # Whatever it left in its group would hold its ports and its jobs.
        _signal_group(process, signal.SIGKILL)
        self._tell_lifeline(f"-{process.pid}")
        await listening
        return code

    def _tell_lifeline(self, line: str) -> None:
        assert self._lifeline.stdin is not None
        self._lifeline.stdin.write(f"{line}\n".encode())

    async def _listen(self, service: Service, output: int) -> None:
        stream = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(stream)
        with os.fdopen(output, "rb") as pipe:
            await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
            async for line in _lines(stream):
                self.console.hear(service.name, line)

    def _restart_notice(self, service: Service, code: int, failures: int, delay: float) -> str:
        notice = f"{service.name} ended with {_outcome(code)}; next start in {delay:g} s"
        if failures >= self.backoff.loop_at:
            notice += f" (crash loop: {failures} short lives in a row, see {service.name}.log)"
        return notice

    def _notice(self, keeper: asyncio.Task[None]) -> None:
        """An error of our own, such as a program that does not exist, ends the run."""
        if not keeper.cancelled() and (error := keeper.exception()):
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self._failure.done():
            self._failure.set_exception(error)

    async def _await_ready(self, service: Service) -> None:
        if service.ready is None:
            return
        deadline = time.monotonic() + service.ready_within
        while not await service.ready():
            if self._failure.done():
                await self._failure
            if time.monotonic() > deadline:
                raise ServiceFailed(service, f"was not ready within {service.ready_within:g} s.")
            await asyncio.sleep(0.05)

    async def _stop(self, service: Service) -> None:
        keeper = self._keepers[service.name]
        process = self.processes.get(service.name)
        if process is None or process.returncode is not None:
            # Between two lives, or over: there is nothing to wait for.
            keeper.cancel()
            await asyncio.wait([keeper])
            return
        for number, patience in service.stop:
            if self._hurry.is_set() or keeper.done():
                break
            with suppress(ProcessLookupError):
                process.send_signal(number)
            await self._wait_or_hurry(keeper, patience)
        if not keeper.done():
            self.console.say(f"{service.name} is killed")
            _signal_group(process, signal.SIGKILL)
        await asyncio.wait([keeper])

    async def _wait_or_hurry(self, keeper: asyncio.Task[None], patience: float) -> None:
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait([keeper, hurry], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()


def _signal_group(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _outcome(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Lines of any length: one that never ends is cut, so that it cannot fill our memory."""
    rest = b""
    while chunk := await stream.read(65536):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")
        if len(rest) > LONGEST_LINE:
            yield rest.decode(errors="replace")
            rest = b""
    if rest:
        yield rest.decode(errors="replace")
