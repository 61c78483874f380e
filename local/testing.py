"""`dev.py test`: the whole test suite on fresh embedded servers, with pytest's arguments and exit code."""

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.account import reachable_home
from local.children import run_in_foreground, stop_on_sigterm
from local.place import CHECKOUT, state_directory
from local.postgres import Settings
from local.stack import servers

# Tests kill processes, never the machine. Commits stay synchronous, so a killed server loses none.
POSTGRES_SETTINGS: Settings = {"fsync": "off", "full_page_writes": "off", "max_connections": 300}


def main(arguments: list[str]) -> int:
    stop_on_sigterm()
    not_run = state_directory() / "not-run.txt"
    not_run.unlink(missing_ok=True)
    with _scratch() as scratch, servers(scratch, persistence=False, settings=POSTGRES_SETTINGS) as started:
        keys = {"SECRET_KEY": secrets.token_urlsafe(48), "DEBUG": "0"}
        environment = {**os.environ, **started.urls, **keys}
        code = run_in_foreground([sys.executable, "-m", "pytest", *arguments], environment)
    if not_run.exists():
        print(f"\nNot run here:\n{not_run.read_text().rstrip()}")
    return code


@contextmanager
def _scratch() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="switchyard-test-"))
    # Passable for the account of a database server started by root.
    directory.chmod(0o711)
    try:
        yield directory
    finally:
        shutil.rmtree(reachable_home(directory / "postgres"), ignore_errors=True)
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    os.chdir(CHECKOUT)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
