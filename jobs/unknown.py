"""A ticket for a task this worker does not know: another worker may, so its job is tried again, then a letter."""

import time
from uuid import UUID

from jobs.diagnosis import plain
from jobs.execution import claim
from jobs.outcomes import NotRegistered
from jobs.settlement import settle


def settle_unknown(job_id: UUID, task: str) -> None:
    """Claim the job in the parent's name and record that nobody here can run it."""
    for job in claim(job_id, until=time.monotonic()):
        settle(job, NotRegistered(plain("NOT_REGISTERED", f"No task called {task!r} is registered on this worker.")))
