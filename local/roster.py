"""Which services `up` runs, in which stage, and how each one stops."""

import os
import signal
import sys
from argparse import Namespace
from pathlib import Path

from local.place import CHECKOUT
from local.prometheus import prometheus_command
from local.readiness import answers, listens
from local.stack import Environment
from local.supervisor import Service

SANDBOX, WEB, WORKERS, DISPATCHER, BEAT = range(5)

# Where dev.py installs Flower for `up --flower`: only Flower's own process looks there.
FLOWER = CHECKOUT / ".venv" / "flower"

# Warm first (the running jobs finish), then cold (they are released), then the kill.
WORKER_STOP = ((signal.SIGTERM, 30.0), (signal.SIGQUIT, 10.0))


def roster(
    options: Namespace,
    environment: Environment,
    *,
    state: Path,
    mailbox: int,
    gateway: int,
    flower_login: str,
) -> list[Service]:
    pools = {"high": options.high, "default": options.default, "low": options.low, "solo": 1, "system": 1}
    services = [
        _sandbox("mailbox", mailbox, state / "mail", ["--refuse", "0.1"]),
        _sandbox("gateway", gateway, state / "gateway", ["--fail", "0.2"]),
        _web(options.port, environment),
        *(_worker(queue, size, environment) for queue, size in pools.items()),
        Service("dispatcher", _python(str(CHECKOUT / "manage.py"), "dispatcher"), DISPATCHER, environment),
        Service("watch", _python(str(CHECKOUT / "manage.py"), "watch"), DISPATCHER, environment),
        Service("beat", _celery("beat", "-S", "jobs.ticks:TickScheduler"), BEAT, environment),
    ]
    if options.metrics:
        services.append(_prometheus(options.metrics, options.port, state))
    if options.flower:
        services.append(_flower(options.flower, flower_login, environment))
    return services


def _sandbox(name: str, port: int, directory: Path, options: list[str]) -> Service:
    command = _python("-m", f"local.{name}", "--port", str(port), "--directory", str(directory), *options)
    return Service(name, command, SANDBOX, ready=listens(port))


def _web(port: int, environment: Environment) -> Service:
    address = ["--host", "127.0.0.1", "--port", str(port)]
    command = _python("-m", "uvicorn", "config.asgi:application", *address, "--timeout-graceful-shutdown", "5")
    # Its port is what the user looks at: better to end than to come and go.
    return Service("web", command, WEB, environment, restarts=False, ready=answers(port, "/healthz"))


def _worker(queue: str, size: int, environment: Environment) -> Service:
    command = _celery("worker", "-Q", queue, "-c", str(size), "-n", f"{queue}@%h")
    return Service(f"worker-{queue}", command, WORKERS, environment, stop=WORKER_STOP)


def _flower(port: int, login: str, environment: Environment) -> Service:
    command = _celery("flower", "--address=127.0.0.1", f"--port={port}")
    path = os.pathsep.join(filter(None, [str(FLOWER), os.environ.get("PYTHONPATH")]))
    own = {"PYTHONPATH": path, "FLOWER_BASIC_AUTH": login}
    return Service("flower", command, WEB, {**environment, **own}, ready=listens(port))


def _prometheus(port: int, web_port: int, state: Path) -> Service:
    command = prometheus_command(state / "prometheus", port=port, web_port=web_port, token_file=state / "api-token")
    return Service("prometheus", command, WORKERS, ready=answers(port, "/-/ready"))


def _celery(program: str, *options: str) -> list[str]:
    arguments = [program, *options] if program == "flower" else [program, *options, "--loglevel", "INFO"]
    return _python("-m", "celery", "-A", "config", *arguments)


def _python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]
