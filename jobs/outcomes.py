"""How an attempt can end. Running yields one of these; settling consumes it."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ErrorReport:
    """What an operator reads: cleaned, capped text, never an object of the task's own."""

    code: str
    message: str = ""
    traceback: str = ""
    fingerprint: str = ""


@dataclass(frozen=True)
class Succeeded:
    """`text` is the result as JSON, when the check has made it already."""

    result: Any
    text: str | None = None

    @property
    def as_json(self) -> str:
        return json.dumps(self.result, ensure_ascii=False) if self.text is None else self.text


@dataclass(frozen=True)
class Failed:
    """The body raised. `delay` (seconds) is what `retry(countdown=)` asked for, else the policy decides."""

    error: ErrorReport
    delay: float | None = None


@dataclass(frozen=True)
class Abandoned:
    """The body said this can never work."""

    error: ErrorReport


@dataclass(frozen=True)
class NotStorable:
    """The body finished, but its result cannot be stored; running it again would repeat the work."""

    error: ErrorReport


@dataclass(frozen=True)
class NotRegistered:
    """This worker does not know the task; after a deploy another may."""

    error: ErrorReport


@dataclass(frozen=True)
class TimedOut:
    """The hard time limit ended the process."""

    error: ErrorReport


@dataclass(frozen=True)
class Died:
    """The process ended under the job."""

    error: ErrorReport
    signal: int | None = None
    exit_code: int | None = None


@dataclass(frozen=True)
class Released:
    """A clean stop gave the job back unfinished; nobody's fault."""

    error: ErrorReport


@dataclass(frozen=True)
class Cancelled:
    """The process was ended because the job was cancelled."""

    error: ErrorReport


Outcome = Succeeded | Failed | Abandoned | NotStorable | NotRegistered | TimedOut | Died | Released | Cancelled
