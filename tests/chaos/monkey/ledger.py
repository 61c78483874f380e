"""The world outside: a table of what the bodies of jobs did, which no fault of a run touches.

SQLite in a file of its own: its rows survive kill -9 of any writer, and neither server's restart reaches it.
Every line is one autocommitted INSERT on a connection of the writing process.
"""

import os
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

PLACE = "CHAOS_LEDGER"
START, END, RAISED, EFFECT, DROPPED = "start", "end", "raised", "effect", "dropped"

_TABLE = """
CREATE TABLE deed (id INTEGER PRIMARY KEY, deed TEXT, job TEXT, key TEXT, attempt INTEGER, pid INTEGER, at REAL)
"""
_RECORD = "INSERT INTO deed (deed, job, key, attempt, pid, at) VALUES (?, ?, ?, ?, ?, ?)"
_open: dict[int, sqlite3.Connection] = {}


@dataclass(frozen=True)
class Deed:
    deed: str
    job: str
    key: str
    attempt: int
    pid: int
    at: float


def create(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(_TABLE)
    connection.close()


def record(deed: str, job: object, *, key: str = "", attempt: int = 0) -> bool:
    """Write down that this process did something for a job. True, so that it can stand as an outcome."""
    _connection().execute(_RECORD, (deed, str(job), key, attempt, os.getpid(), time.time()))
    return True


def read(path: Path) -> list[Deed]:
    connection = sqlite3.connect(path, timeout=60)
    try:
        rows = connection.execute("SELECT deed, job, key, attempt, pid, at FROM deed ORDER BY id").fetchall()
    finally:
        connection.close()
    return [Deed(*row) for row in rows]


def busy_pids(deeds: list[Deed]) -> list[int]:
    """Processes whose latest deed was to start a body: a kill there hits a job."""
    latest = {deed.pid: deed.deed for deed in deeds if deed.deed != DROPPED}
    return sorted(pid for pid, deed in latest.items() if deed in (START, EFFECT))


def _connection() -> sqlite3.Connection:
    """One per process: a connection must not cross a fork."""
    pid = os.getpid()
    if pid not in _open:
        _open[pid] = sqlite3.connect(os.environ[PLACE], timeout=60, isolation_level=None)
        _open[pid].execute("PRAGMA synchronous = OFF")
    return _open[pid]
