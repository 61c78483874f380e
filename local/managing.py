"""`dev.py manage`: manage.py in the environment of a running `up`, or with servers for one command."""

import json
import os
import sys

from local.children import run_in_foreground, stop_on_sigterm
from local.place import CHECKOUT, PlaceTaken, hold, state_directory
from local.stack import Environment, project_environment, servers

# Nothing listens there: mail and payments need the sandbox servers of a running `up`.
NO_PORT = 9


def main(arguments: list[str]) -> int:
    command = [sys.executable, str(CHECKOUT / "manage.py"), *arguments]
    state = state_directory()
    try:
        place = hold(state / "lock")
    except PlaceTaken as taken:
        os.execve(sys.executable, command, _beside(taken))
    with place, servers(state) as started:
        environment = project_environment(state, port=8000, mailbox=NO_PORT, gateway=NO_PORT)
        return run_in_foreground(command, {**environment, **os.environ, **started.urls})


def _beside(taken: PlaceTaken) -> Environment:
    """The environment of the running `up`; what the user's environment sets stands."""
    try:
        running: Environment = json.loads((state_directory() / "environment.json").read_text())
    except FileNotFoundError:
        sys.exit(f"Process {taken.pid} is starting or using the servers of .data: try again in a moment.")
    return {**os.environ, **{name: os.environ.get(name) or value for name, value in running.items()}}


if __name__ == "__main__":
    stop_on_sigterm()
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
