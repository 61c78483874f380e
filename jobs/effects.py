"""What a running body can say and ask about its job, on a connection its own transaction cannot roll back."""

import json
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
from django.conf import settings

from jobs.connections import is_outage, own, patiently
from jobs.querysets import Held
from jobs.storable import clean, dumps

SAY_EVERY = 1.0
NOTE_LIMIT = 200

_PROGRESS = """
UPDATE jobs_job SET progress = %(progress)s::jsonb
 WHERE id = %(id)s AND state = 'STARTED' AND attempt = %(attempt)s AND claim_token = %(token)s
"""
_CANCEL_ASKED = """
SELECT 1 FROM jobs_job WHERE id = %(id)s AND (cancel_requested_at IS NOT NULL OR attempt <> %(attempt)s)
"""
_RECORDED = "SELECT outcome FROM jobs_effect WHERE job_id = %(id)s AND name = %(name)s"
_RECORD = """
INSERT INTO jobs_effect (job_id, name, outcome, at) VALUES (%(id)s, %(name)s, %(outcome)s::jsonb, clock_timestamp())
ON CONFLICT (job_id, name) DO NOTHING
"""


class RunningJob:
    """`self.job` inside a task: what the body may know and tell."""

    def __init__(self, held: Held, *, until: float) -> None:
        """`until` (time.monotonic) is how long `once` waits for a database that is away."""
        self.id: UUID = held.id
        self.idempotency_key: str = held.idempotency_key
        self.attempt: int = held.attempt
        self.retries: int = held.retries
        self._names = {"id": held.id, "attempt": held.attempt, "token": held.claim_token}
        self._said_at = self._asked_at = float("-inf")
        self._cancelled = False
        self._until = until

    def progress(self, done: int, total: int | None = None, note: str = "") -> None:
        """Show how far the job is; at most one write a second, the last (done == total) always."""
        now = time.monotonic()
        if now - self._said_at < SAY_EVERY and done != total:
            return
        self._said_at = now
        said = {"done": done, "total": total, "note": clean(note, limit=NOTE_LIMIT)}
        _if_it_answers(_PROGRESS, self._names | {"progress": json.dumps(said)})

    def cancelled(self) -> bool:
        """Whether somebody asked this job to stop, or another attempt has it by now; asks at most once a second."""
        now = time.monotonic()
        if not self._cancelled and now - self._asked_at >= SAY_EVERY:
            self._asked_at = now
            self._cancelled = bool(_if_it_answers(_CANCEL_ASKED, self._names))
        return self._cancelled

    def once(self, name: str, function: Callable[[], Any]) -> Any:
        """Run `function` unless an earlier attempt recorded its outcome under this name; that outcome, as JSON.

        A process killed between the function's effect and the record runs it again, so hand the
        idempotency key downstream too. Raises InvalidJob when the outcome is not JSON.
        """
        mine = self._names | {"name": name}
        if rows := self._rows(_RECORDED, mine):
            return rows[0][0]
        outcome = dumps(function(), field=f"/once/{name}", limit=settings.RESULT_LIMIT_BYTES)
        self._rows(_RECORD, mine | {"outcome": outcome})
        return self._rows(_RECORDED, mine)[0][0]

    def _rows(self, statement: str, names: dict[str, Any]) -> list[tuple[Any, ...]]:
        """An effect that has happened must be recorded: wait for the database, as a settlement would."""
        return patiently(lambda _: own().rows(statement, names), until=self._until)


def _if_it_answers(statement: str, names: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What a body can do without: an outage must not fail it."""
    try:
        return own().rows(statement, names)
    except psycopg.Error as error:
        if not is_outage(error):
            raise
        return []
