"""What the worker's parent does when an attempt ends without settling: it reports, and never waits for the database.

Celery sends no task_failure when it requeues a lost worker's message, so the Request class, Celery's
extension point, is where a child's death can be seen. Celery calls on_accepted, on_failure, on_timeout
and revoked on it.
"""

import re
from typing import Any, cast
from uuid import UUID

from billiard.einfo import ExceptionWithTraceback  # type: ignore[attr-defined]
from celery.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery.worker.request import Request
from celery.worker.state import task_ready

from jobs.parent import parent
from jobs.rescue import Cause, Ended

EXIT = re.compile(r"(signal|exitcode) (-?\d+)")


class JobRequest(Request):
    """A ticket on its way through the parent."""

    def on_accepted(self, pid: Any, time_accepted: float) -> None:
        super().on_accepted(pid, time_accepted)
        # In this order: what the beat thread finds among these is among Celery's active requests too, or was.
        parent.running[UUID(self.id)] = time_accepted

    @property
    def is_doorbell(self) -> bool:
        """Whether this stands for jobs claimed together, whose ids only the child knows."""
        return "doorbell" in self._request_dict  # type: ignore[attr-defined]

    def revoked(self) -> bool:
        """Never: the claim decides, and Celery's set of revoked ids would discard a replay for three hours."""
        return False

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        error = exc_info.exception
        error = error.exc if isinstance(error, ExceptionWithTraceback) else error
        cause = _cause(error, return_ok)
        if cause is None:
            super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
        else:
            self._ended(cause, str(error))

    def on_timeout(self, soft: bool, timeout: float) -> None:
        if not soft:
            self._ended(Cause.TIME_LIMIT, f"The hard time limit of {timeout:g} s was reached.")

    def _ended(self, cause: Cause, text: str) -> None:
        task_ready(self)
        self.acknowledge()
        self.send_event("task-failed", exception=text, traceback="")
        signal, exit_code = _exit(text)
        pid = cast(int | None, self.worker_pid)
        parent.report(Ended(UUID(self.id), pid, cause, text, signal, exit_code, was_batch=self.is_doorbell))


def _cause(error: BaseException, return_ok: bool) -> Cause | None:
    """Why the attempt is over without a settlement; None when the child has settled."""
    # Of Celery's own code around the attempt, where nothing is held. Celery would end the whole worker for it.
    if isinstance(error, (Terminated, MemoryError)):
        return Cause.TERMINATED
    if isinstance(error, TimeLimitExceeded):
        return Cause.TIME_LIMIT
    if isinstance(error, WorkerLostError) or (isinstance(error, SystemExit) and not return_ok):
        return Cause.DEATH
    return None


def _exit(text: str) -> tuple[int | None, int | None]:
    """Signal and exit code out of billiard's words, the only place they reach this far."""
    found = EXIT.search(text)
    if found is None:
        return None, None
    number = abs(int(found[2]))
    return (number, None) if found[1] == "signal" else (None, number)
