"""What happens to jobs besides their attempts: an event of each, and a line of each in the log once it is committed.

What attempts do is told where they are claimed and settled.
"""

import logging
from collections.abc import Collection
from functools import partial

from django.db import transaction

from jobs.logs import about_others
from jobs.models import Event
from jobs.states import State

logger = logging.getLogger("jobs")


def note(events: Collection[Event], *, state: State) -> None:
    """Write the events of jobs that are in `state` by now."""
    Event.objects.bulk_create(events)
    tell_on_commit(partial(_tell, events, state))


def tell_on_commit(tell: partial[None]) -> None:
    """Have lines about other jobs than the one that runs here written if the caller's transaction commits."""
    if logger.isEnabledFor(logging.INFO):
        transaction.on_commit(partial(_about_others, tell))


def _about_others(tell: partial[None]) -> None:
    with about_others():
        tell()


def _tell(events: Collection[Event], state: State) -> None:
    for event in events:
        logger.info("job %s", event.verb, extra={"job_id": str(event.job_id), "state": state, "actor": event.actor})
