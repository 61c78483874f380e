"""A child process that ended is followed by the next at once.

Celery 5.7 looks at its children when one closes its end of a pipe (celery/concurrency/asynpool.py,
`_event_process_exit`), which happens a moment before the process can be waited for. When that look comes too
early, the next one is up to five seconds later: with `worker_max_tasks_per_child` that is most of the time
of a worker that has much to do, and for a child that was killed it is how late its death is known.

Before it ends, a child waits until its parent has read its last result (billiard/pool.py,
`_ensure_messages_consumed`). It asks at once, which is too early, and then every tenth of a second.
"""

import gc
from typing import Any

import billiard.pool
from celery import bootsteps
from celery.concurrency.asynpool import AsynPool

# Seconds after Celery's own look; the kernel needs about one millisecond.
LOOK_AGAIN = (0.001, 0.005, 0.02, 0.1, 0.5)
ASK_AGAIN, PATIENCE = 0.001, 30.0


class SuccessionStep(bootsteps.StartStopStep):
    """Has the pool look again soon after each look for an ended process."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        # What is loaded by now stays. Celery collects garbage before every fork, and children do it on pages that
        # they share with us as long as nobody writes to them; neither needs to look at all of Django for it.
        gc.collect()
        gc.freeze()
        billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_INTERVAL = ASK_AGAIN
        billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = round(PATIENCE / ASK_AGAIN)
        super().__init__(worker, **options)

    def start(self, worker: Any) -> None:
        found = getattr(worker.pool, "_pool", None)
        if isinstance(found, AsynPool):
            _look_again(found)


def _look_again(pool: Any) -> None:
    looks_once = pool._event_process_exit

    def looks_again(hub: Any, process: Any) -> None:
        looks_once(hub, process)
        for seconds in LOOK_AGAIN:
            hub.call_later(seconds, pool.maintain_pool)

    pool._event_process_exit = looks_again
