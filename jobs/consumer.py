"""Celery's consumer, taught what to do with a ticket whose task this worker does not know."""

import logging
from typing import Any
from uuid import UUID

from celery.worker.consumer import Consumer

from jobs import remote
from jobs.parent import parent

__all__ = ["JobConsumer", "remote"]  # importing remote registers its commands in every worker
logger = logging.getLogger("jobs")


class JobConsumer(Consumer):
    """An old worker during a deploy meets new tasks: it must neither lose the job nor ask the database here.

    Celery's own on_unknown_task writes to the result backend inside the event loop.
    """

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        try:
            job_id = UUID(str(message.headers["id"]))
        except (KeyError, ValueError):
            super().on_unknown_task(body, message, exc)
            return
        logger.error("unknown task", extra={"job_id": str(job_id), "task": message.headers.get("task")})
        message.ack_log_error(logger, self.connection_errors)  # type: ignore[attr-defined]
        parent.report_unknown(job_id, str(message.headers.get("task")))
