"""A Celery application as the usual guides configure it, on kombu's own Redis transport or on ours."""

import os
import time

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


@app.task(name="flaky")
def flaky(*_: object) -> None:
    print("a good message was read", flush=True)


@app.task(name="nap")
def nap(seconds: float) -> None:
    print("a nap began", flush=True)
    time.sleep(seconds)
    print("a nap ended", flush=True)
