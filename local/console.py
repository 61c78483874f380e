"""What the terminal and the log files get of the services' output."""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO

COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)
TROUBLE = re.compile(r"\b(WARNING|ERROR|CRITICAL|Traceback)\b")
OWN_NAME = "switchyard"
SHOWN_LINES = 15
KEPT_BYTES = 10_000_000


class Console:
    """Every line goes to its service's file; the terminal shows all, or while `quiet` only trouble."""

    def __init__(self, logs: Path, *, as_json: bool = False, out: TextIO = sys.stdout) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self.logs = logs
        self.as_json = as_json
        self.out = out
        self.quiet = False
        self._files: dict[str, RotatingFileHandler] = {}

    def say(self, text: str) -> None:
        """A line of our own, about the services: always shown."""
        self._keep(OWN_NAME, text)
        self._show(OWN_NAME, text)

    def hear(self, service: str, line: str) -> None:
        """A line of a service's output."""
        self._keep(service, line)
        if not self.quiet or TROUBLE.search(line):
            self._show(service, line)

    def last_lines(self, service: str) -> str:
        """The end of a service's output, for a message about its end."""
        lines = (self.logs / f"{service}.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-SHOWN_LINES:])

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def _keep(self, service: str, line: str) -> None:
        if service not in self._files:
            path = self.logs / f"{service}.log"
            self._files[service] = RotatingFileHandler(path, maxBytes=KEPT_BYTES, backupCount=1)
        self._files[service].emit(logging.makeLogRecord({"msg": line}))

    def _show(self, service: str, line: str) -> None:
        shown = self._as_object(service, line) if self.as_json else self._as_text(service, line)
        print(shown, file=self.out, flush=True)

    def _as_text(self, service: str, line: str) -> str:
        if not self.out.isatty():
            return f"{service:>14} | {line}"
        colour = COLOURS[sum(service.encode()) % len(COLOURS)]
        # A progress line may stand on this row: wipe it.
        return f"\r\x1b[K\x1b[{colour}m{service:>14} |\x1b[0m {line}"

    def _as_object(self, service: str, line: str) -> str:
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            entry = {"ts": datetime.now(UTC).isoformat(), "msg": line}
        return json.dumps({"service": service, **entry})
