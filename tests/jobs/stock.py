"""A Celery application as the usual guides configure it, on kombu's own Redis transport or on ours."""

import os
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from celery import Celery
from kombu.transport import TRANSPORT_ALIASES

if os.environ.get("STOCK_TRANSPORT"):
    TRANSPORT_ALIASES["redis"] = os.environ["STOCK_TRANSPORT"]

app = Celery("stock", broker=os.environ.get("STOCK_BROKER"), set_as_current=False)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    task_default_queue="default",
    broker_transport_options={"ticket_queues": ("default",)},
    worker_max_tasks_per_child=int(os.environ.get("STOCK_RECYCLED_AFTER", "0")) or None,
)
if os.environ.get("STOCK_STEP"):
    app.steps["worker"].add(os.environ["STOCK_STEP"])


def _linger(code: int, exit_now: Callable[[int], NoReturn] = os._exit) -> NoReturn:
    """What a child's end looks like on a machine where the kernel takes its time: its pipe closes, and then it ends."""
    frame = sys._getframe()
    while frame.f_back and "child_w" not in frame.f_locals:
        frame = frame.f_back
    # billiard/popen_fork.py, `_launch`: the parent sees this end close.
    if "child_w" in frame.f_locals:
        os.close(frame.f_locals["child_w"])
        time.sleep(float(os.environ["STOCK_LINGER"]))
    exit_now(code)


if os.environ.get("STOCK_LINGER"):
    os._exit = _linger


@app.task(name="flaky")
def flaky(*_: object) -> None:
    print("a good message was read", flush=True)


@app.task(name="nap")
def nap(seconds: float) -> None:
    print("a nap began", flush=True)
    time.sleep(seconds)
    print("a nap ended", flush=True)
