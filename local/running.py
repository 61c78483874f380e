"""The time between start and stop of `up`: services, the sample, and what ends the run."""

import asyncio
import os
import signal
import sys
from asyncio import FIRST_COMPLETED, Task, create_task
from asyncio.subprocess import DEVNULL
from dataclasses import dataclass
from pathlib import Path

from local.banner import Banner
from local.children import tied
from local.console import Console
from local.embedded import EmbeddedServer
from local.place import CHECKOUT
from local.stack import Environment
from local.supervisor import Service, ServiceFailed, Supervisor

INTERRUPTED = 130
LOOK_EVERY = 0.5


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before the first service starts."""

    services: list[Service]
    embedded: list[EmbeddedServer]
    environment: Environment
    banner: Banner
    sample: Path | None
    once: bool
    metrics_port: int | None = None


async def run(plan: Plan, console: Console) -> int:
    """Run the plan until it is done, a stop is asked for, or a service that must live has ended."""
    supervisor = Supervisor(console)
    stop_asked = _catch_signals(supervisor, console)
    tasks = {
        create_task(_work(plan, supervisor, console)),
        create_task(_until(stop_asked, INTERRUPTED if plan.once else 0)),
        create_task(_until_failure(supervisor, console)),
        create_task(_keep_servers(plan.embedded, console)),
    }
    ended, unfinished = await asyncio.wait(tasks, return_when=FIRST_COMPLETED)
    await _cancel(unfinished)
    console.quiet = True
    console.say("stopping")
    stop_asked.set()
    await supervisor.stop()
    return max(task.result() for task in ended)


def _catch_signals(supervisor: Supervisor, console: Console) -> asyncio.Event:
    """The first SIGINT or SIGTERM asks for a stop, the next one hurries it."""
    asked = asyncio.Event()

    def ask() -> None:
        if asked.is_set():
            console.say("hurrying: killing what is left")
            supervisor.hurry()
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, ask)
    return asked


async def _until(asked: asyncio.Event, code: int) -> int:
    await asked.wait()
    return code


async def _until_failure(supervisor: Supervisor, console: Console) -> int:
    try:
        await supervisor.watch()
    except ServiceFailed as failure:
        _explain(failure, console)
    return 1


async def _work(plan: Plan, supervisor: Supervisor, console: Console) -> int:
    console.quiet = True
    try:
        await supervisor.start(plan.services)
    except ServiceFailed as failure:
        _explain(failure, console)
        return 1
    code = await _submit(plan) if plan.sample else 0
    if plan.once:
        print(plan.banner.farewell(), flush=True)
        return code
    print(plan.banner.as_json() if console.as_json else plan.banner.as_text(), flush=True)
    console.quiet = False
    await asyncio.Event().wait()
    return 0


def _explain(failure: ServiceFailed, console: Console) -> None:
    name = failure.service.name
    console.say(f"{failure} The end of its output:\n{console.last_lines(name)}")


async def _submit(plan: Plan) -> int:
    """Submit the sample and follow it to its end, then ask whether its metrics arrived."""
    code = await _in_foreground(
        plan.environment, str(CHECKOUT / "manage.py"), "submit_jobs", str(plan.sample), "--wait"
    )
    if plan.metrics_port:
        code = max(
            code, await _in_foreground(plan.environment, "-m", "local.metrics", "--port", str(plan.metrics_port))
        )
    return code


async def _in_foreground(environment: Environment, *arguments: str) -> int:
    """Run a program of ours that writes to our terminal; what it does is not a line of the log there."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments),
        env={"LOG_LEVEL": "WARNING", **os.environ, **environment},
        stdin=DEVNULL,
        process_group=0,
        preexec_fn=tied(),
    )
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def _keep_servers(embedded: list[EmbeddedServer], console: Console) -> int:
    """Start an embedded server again that has crashed; its clients connect again by themselves."""
    while True:
        await asyncio.sleep(LOOK_EVERY)
        for server in embedded:
            if server.has_ended():
                console.say(f"{server.name} has ended; starting it again")
                server.start()


async def _cancel(tasks: set[Task[int]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
