"""Where the state lives, and the lock that lets one process at a time work there."""

import fcntl
import os
from pathlib import Path
from typing import IO

CHECKOUT = Path(__file__).resolve().parent.parent


class PlaceTaken(Exception):
    """Another live process works in this directory."""

    def __init__(self, path: Path, pid: str) -> None:
        super().__init__(f"{path.parent} is in use by process {pid}")
        self.pid = pid


def state_directory() -> Path:
    """The directory of everything that outlives a run: SWITCHYARD_DATA, or .data in the checkout."""
    state = Path(os.environ.get("SWITCHYARD_DATA") or CHECKOUT / ".data").absolute()
    # Passable but not listable: the database server may run under another account.
    state.mkdir(mode=0o711, parents=True, exist_ok=True)
    return state


def hold(path: Path) -> IO[str]:
    """Take the place named by a lock file, until the returned file is closed or this process ends."""
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        pid = file.read().strip()
        file.close()
        raise PlaceTaken(path, pid or "unknown") from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def write_private(path: Path, text: str) -> None:
    """Replace a file that only its owner may read, in one step."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600, exist_ok=False)
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
