"""Longer runs, each on fresh servers: `python -m tests.operations.shows NAME`."""

import argparse
import logging
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import django

from local.account import reachable_home
from local.children import stop_on_sigterm
from local.stack import servers

INSIDE = "SHOW_LOGS"
SHOWS = ("demonstration", "paged", "rolling_deploy", "soak")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.operations.shows")
    parser.add_argument("show", choices=SHOWS, help="soak takes --seconds N")
    parser.parse_known_args(arguments)
    if INSIDE in os.environ:
        return perform(*arguments)
    stop_on_sigterm()
    place = Path(tempfile.mkdtemp(prefix="switchyard-show-"))
    place.chmod(0o711)
    for name in ("DATABASE_URL", "REDIS_URL"):
        os.environ.pop(name, None)
    try:
        with servers(place) as started:
            keys = {"SECRET_KEY": secrets.token_urlsafe(48), "DEBUG": "1", "DATA_DIR": str(place)}
            keys |= {"DJANGO_SETTINGS_MODULE": "config.settings", INSIDE: str(place)}
            command = [sys.executable, "-m", "tests.operations.shows", *arguments]
            return subprocess.run(command, env={**os.environ, **started.urls, **keys}, check=False).returncode
    finally:
        shutil.rmtree(reachable_home(place / "postgres"), ignore_errors=True)
        shutil.rmtree(place, ignore_errors=True)


def perform(name: str, *arguments: str) -> int:
    """The show itself, in a process whose environment leads to the servers."""
    django.setup()
    # What this process submits is in what the show says.
    logging.getLogger("jobs").setLevel(logging.WARNING)
    import_module(f"tests.operations.shows.{name}").main(list(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
