"""Timers of jobs that are over are forgotten.

Celery arms a timer for the hard time limit of every job. kombu 5.7 (kombu/asynchronous/timer.py) marks one that is
called off and keeps it until its time: at 200 jobs a second and a limit of 300 s, sixty thousand of them, 30 MB.
"""

import heapq
from typing import Any

from celery import bootsteps

TIDY_SECONDS = 10.0


class TimersStep(bootsteps.StartStopStep):
    """Tidies the event loop's timers, between two of them."""

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        if worker.hub is not None:
            worker.hub.call_repeatedly(TIDY_SECONDS, tidy, worker.hub.timer)


def tidy(timer: Any) -> None:
    """In place, since the event loop is walking along this very list."""
    waiting = timer._queue
    waiting[:] = [each for each in waiting if not each.entry.canceled]
    heapq.heapify(waiting)
