"""What the sandbox gateway remembers: every key with its order and calls, and every charge really made."""

import json
import sqlite3
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLES = """
    CREATE TABLE IF NOT EXISTS entry (key TEXT PRIMARY KEY, body TEXT NOT NULL, calls INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS charge (id TEXT PRIMARY KEY, key TEXT NOT NULL REFERENCES entry);
    CREATE INDEX IF NOT EXISTS charge_by_key ON charge (key);
    PRAGMA synchronous = OFF;
"""


@dataclass(frozen=True)
class Entry:
    key: str
    order: dict[str, Any]


class Ledger:
    """One connection, one caller at a time: the gateway answers from many threads."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.executescript(TABLES)

    def call(self, key: str, order: dict[str, Any]) -> tuple[Entry, bool]:
        """Count a call. Returns the key's entry as its first call made it, and whether this is that call."""
        with self._lock:
            body, calls = self._database.execute(
                "INSERT INTO entry VALUES (?, ?, 1) ON CONFLICT (key) DO UPDATE SET calls = calls + 1"
                " RETURNING body, calls",
                (key, json.dumps(order)),
            ).fetchone()
        return Entry(key, json.loads(body)), calls == 1

    def charge(self, entry: Entry) -> tuple[str, bool]:
        """Charge a key unless it is charged already. Returns the charge's id, and whether it is new."""
        with self._lock:
            charges = self._database.execute("SELECT id FROM charge WHERE key = ?", (entry.key,))
            if known := charges.fetchone():
                return known[0], False
            charge_id = f"ch_{uuid.uuid4().hex}"
            self._database.execute("INSERT INTO charge VALUES (?, ?)", (charge_id, entry.key))
        return charge_id, True

    def count(self, key: str) -> dict[str, Any]:
        charged, calls = self._row(
            "SELECT (SELECT count(*) FROM charge WHERE key = :key),"
            " coalesce((SELECT calls FROM entry WHERE key = :key), 0)",
            key=key,
        )
        return {"key": key, "charged": charged, "calls": calls}

    def totals(self) -> dict[str, int]:
        keys, charges, twice, calls = self._row(
            "SELECT (SELECT count(*) FROM entry), (SELECT count(*) FROM charge),"
            " (SELECT count(*) FROM (SELECT 1 FROM charge GROUP BY key HAVING count(*) > 1)),"
            " (SELECT coalesce(sum(calls), 0) FROM entry)"
        )
        return {"keys": keys, "charges": charges, "charged_twice": twice, "calls": calls}

    def _row(self, query: str, **parameters: str) -> tuple[Any, ...]:
        with self._lock:
            row: tuple[Any, ...] = self._database.execute(query, parameters).fetchone()
        return row
