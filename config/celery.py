"""The Celery application: everything about it that a lost or repeated message could depend on is set here."""

import os
import sys

from celery import Celery, signals
from kombu import Queue
from kombu.transport import TRANSPORT_ALIASES

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.conf import settings

from config.env import broker
from jobs.policies import longest_hard_limit

# httpx would load its command line, whose libraries take three MiB of every worker.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
# Wherever a Redis URL is used; kombu knows transports by their scheme only.
TRANSPORT_ALIASES |= dict.fromkeys(("redis", "rediss"), "jobs.transport:Transport")

app = Celery("switchyard", set_as_current=True, amqp="jobs.canvas:JobAMQP", fixups=["config.refusing:fixup"])
app.conf.update(
    broker_url=broker(settings.REDIS_URL),
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # A Redis that answers with an error (out of memory, read-only after a failover) is away, not the worker's end
    broker_channel_error_retry=True,
    broker_transport_options={
        "ticket_queues": settings.JOB_QUEUES,
        "visibility_timeout": longest_hard_limit() + 600,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 10,
    },
    # JSON only: no message can make a worker unpickle
    accept_content=["json"],
    task_serializer="json",
    result_serializer="json",
    # The second net under the claim, which holds without it
    task_acks_late=settings.TASK_ACKS_LATE,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=False,
    # Declared queues only: a typo must not make a list nobody reads
    task_queues=[Queue(name) for name in settings.JOB_QUEUES],
    task_default_queue="default",
    task_create_missing_queues=False,
    imports=["jobs.tasks", "deadletters.tasks", "monitoring.tasks"],
    task_ignore_result=False,
    result_backend="jobs.results:JobResults",
    result_extended=True,
    worker_max_tasks_per_child=1000,
    worker_soft_shutdown_timeout=10,
    worker_hijack_root_logger=False,
    # Three messages a job, which cost the parent more than all the rest; Flower turns them on while it looks
    worker_send_task_events=False,
    worker_consumer="jobs.consumer:JobConsumer",
    beat_scheduler="jobs.ticks:TickScheduler",
    timezone="UTC",
    enable_utc=True,
)


app.steps["worker"].add("jobs.parent:ParentStep")
app.steps["worker"].add("jobs.succession:SuccessionStep")
app.steps["worker"].add("jobs.timers:TimersStep")


@signals.setup_logging.connect
def keep_django_logging(**_: object) -> None:
    """Celery leaves logging alone when this signal has a receiver; what a body prints becomes lines like any other."""
    # The children read the level's name from their environment.
    app.log.redirect_stdouts("INFO")  # type: ignore[arg-type]
