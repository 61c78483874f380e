"""`dev.py up`: the whole system on this machine with a sample of every task; `--once` ends with it."""

import argparse
import asyncio
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from local.banner import Banner
from local.binaries import BinaryMissing
from local.children import stop_on_sigterm
from local.console import Console
from local.embedded import ServerFailed
from local.first_run import SetupFailed, prepare_database
from local.place import CHECKOUT, PlaceTaken, hold, state_directory, write_private
from local.readiness import free_port, is_free
from local.roster import roster
from local.running import INTERRUPTED, Plan, run
from local.sample import write_sample
from local.stack import Environment, Servers, project_environment, servers

FLOWER_PORT = 5555
PROMETHEUS_PORT = 9090
POOLS = {"high": 4, "default": 2, "low": 2}


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    state = state_directory()
    try:
        place = hold(state / "lock")
    except PlaceTaken as taken:
        sys.exit(f"{taken}: stop it first (kill {taken.pid}), or set SWITCHYARD_DATA to another directory.")
    with place:
        refuse_taken_ports(options)
        console = Console(state / "logs", as_json=options.json)
        console.say("starting the servers")
        ports = sandbox_ports(state)
        with servers(state) as started:
            environment = {**project_environment(state, port=options.port, **ports), **started.urls}
            with published(state, environment):
                console.say("preparing the database")
                return asyncio.run(run(plan(options, state, started, environment, ports), console))


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py up", description="Run everything on this machine.")
    parser.add_argument("--once", action="store_true", help="stop after the sample; exit 0 if nothing was lost")
    parser.add_argument("--no-sample", action="store_true", help="submit nothing")
    port, size_of_pool = _number(1, 65535), _number(1, 1000)
    parser.add_argument("--port", type=port, default=8000, help="of the web server (8000)")
    for queue, size in POOLS.items():
        parser.add_argument(f"--{queue}", type=size_of_pool, default=size, metavar="N", help=f"its processes ({size})")
    parser.add_argument("--flower", type=port, nargs="?", const=FLOWER_PORT, metavar="PORT", help="run Flower")
    parser.add_argument(
        "--metrics", type=port, nargs="?", const=PROMETHEUS_PORT, metavar="PORT", help="run an installed Prometheus"
    )
    parser.add_argument("--json", action="store_true", help="log JSON lines")
    options = parser.parse_args(arguments)
    if options.once and options.no_sample:
        parser.error("--once waits for the sample: it does not go with --no-sample")
    return options


def _number(least: int, most: int) -> Callable[[str], int]:
    """A type of argparse: a whole number in these bounds."""

    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return read


def refuse_taken_ports(options: argparse.Namespace) -> None:
    for option in ("port", "flower", "metrics"):
        port = getattr(options, option)
        if port and not is_free(port):
            sys.exit(f"Port {port} is taken by another program: choose another one with --{option} N.")


@contextmanager
def published(state: Path, environment: Environment) -> Iterator[None]:
    """Keep the environment in a file while this run lasts: `dev.py manage` finds us by it."""
    path = state / "environment.json"
    write_private(path, json.dumps(environment))
    try:
        yield
    finally:
        path.unlink()


def sandbox_ports(state: Path) -> dict[str, int]:
    """The ports of the last run if they are free: jobs that wait since then hold addresses with them."""
    path = state / "ports.json"
    last = json.loads(path.read_text()) if path.exists() else {}
    ports = {name: last.get(name, 0) for name in ("mailbox", "gateway")}
    ports = {name: port if port and is_free(port) else free_port() for name, port in ports.items()}
    path.write_text(json.dumps(ports))
    return ports


def plan(
    options: argparse.Namespace,
    state: Path,
    started: Servers,
    environment: Environment,
    ports: dict[str, int],
) -> Plan:
    access = prepare_database(state, environment)
    flower_login = f"flower:{secrets.token_urlsafe(9)}"
    log_format = {"LOG_FORMAT": "json" if options.json else "plain", "PYTHONUNBUFFERED": "1"}
    return Plan(
        services=roster(options, {**environment, **log_format}, state=state, flower_login=flower_login, **ports),
        embedded=started.embedded,
        environment=environment,
        banner=Banner(f"http://127.0.0.1:{options.port}", access, options.flower, flower_login, options.metrics),
        sample=None if options.no_sample else write_sample(state, gateway_port=ports["gateway"]),
        once=options.once,
        metrics_port=options.metrics,
    )


if __name__ == "__main__":
    os.chdir(CHECKOUT)
    stop_on_sigterm()
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except (BinaryMissing, PlaceTaken, ServerFailed, SetupFailed) as failure:
        sys.exit(str(failure))
