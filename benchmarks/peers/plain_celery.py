"""Celery as production guides configure it: late ack, reject on worker lost, prefetch 1. Records nothing."""

import os

from celery import Celery

from benchmarks.marks import mark
from benchmarks.peers.driving import drive

app = Celery("bench", broker=os.environ["REDIS_URL"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_ignore_result=True,
    task_default_queue="bench-celery",
    worker_hijack_root_logger=False,
)


@app.task(name="noop")
def noop(number: int, text: str, at: float) -> dict[str, int]:
    mark(at)
    return {"number": number}


if __name__ == "__main__":
    drive(
        prepare=app.control.purge,
        submit=lambda payload: noop.delay(**payload),
        bulk=lambda payloads: [noop.delay(**payload) for payload in payloads],
    )
