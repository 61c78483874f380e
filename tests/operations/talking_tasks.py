"""A task that talks through every kind of logger; started with `-I`."""

import logging
import warnings

from celery import shared_task
from celery.utils.log import get_task_logger

from jobs.task import JobTask


@shared_task(base=JobTask, name="talk", bind=True)
def talk(self: JobTask, secret: str, failures: int = 0) -> None:
    logging.getLogger("some.library").warning("from a library")
    get_task_logger("talk").info("from celery's task logger")
    logging.getLogger().info("from the root")
    logging.captureWarnings(True)
    warnings.simplefilter("always")
    warnings.warn("from a warning", stacklevel=1)
    if self.job is not None and self.job.attempt <= failures:
        raise ConnectionError("not yet")
