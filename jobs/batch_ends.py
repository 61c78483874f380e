"""What a worker's parent knows of jobs claimed together: the parent has only the doorbell, so it asks by process."""

from jobs import querysets
from jobs.connections import own
from jobs.processes import me
from jobs.querysets import Held
from jobs.rescue import Ended, outcome_of_end
from jobs.settlement import settle


def record_end(ended: Ended, *, stopping: bool) -> None:
    """Settle every job the ended child had claimed and not settled; each is charged once."""
    for job in held_by_children():
        if job.child_pid == ended.pid:
            settle(job, outcome_of_end(ended, job, stopping))


def held_by_children() -> list[Held]:
    """The jobs that were claimed together in this worker's name and are still STARTED."""
    return [Held(*row) for row in own().rows(querysets.HELD_IN_BATCHES, {"worker": me.worker})]
