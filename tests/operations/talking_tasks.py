"""Tasks that talk through every kind of logger; started with `-I`."""

import logging
import sys
import threading
import warnings
from typing import Any

from celery import shared_task
from celery.utils.log import get_task_logger

from jobs.task import JobTask

library = logging.getLogger("some.library")


@shared_task(base=JobTask, name="talk", bind=True)
def talk(self: JobTask, secret: str, failures: int = 0) -> None:
    library.warning("from a library")
    get_task_logger("talk").info("from celery's task logger")
    logging.getLogger().info("from the root")
    logging.captureWarnings(True)
    warnings.simplefilter("always")
    warnings.warn("from a warning", stacklevel=1)
    print("from a print")
    thread = threading.Thread(target=library.info, args=["from a thread"])
    thread.start()
    thread.join()
    if self.job is not None and self.job.attempt <= failures:
        raise ConnectionError("not yet")


@shared_task(base=JobTask, name="pass_on")
def pass_on(count: int) -> None:
    """Submit itself again, until `count` have been."""
    if count:
        pass_on.delay(count=count - 1)


@shared_task(base=JobTask, name="confide")
def confide(password: str, card: dict[str, Any], pin: int, amount: int) -> None:
    """Say its secrets in every way there is."""
    library.info("message %s and %s", password, {"again": card})
    library.info("numbers %d, %d and %d", pin, amount, pin * 10)
    library.info("mismatch %d %d", password)
    library.info(
        "extras", extra={"found": {"deep": [password, card["number"]]}, "pin": 7, "kind": ValueError(password)}
    )
    library.info("url https://example.com/?q=" + card["holder"].replace(" ", "%20"))
    print(f"printed {password}")
    print(f"printed on stderr {card}", file=sys.stderr)
    thread = threading.Thread(target=library.info, args=["thread %s", password])
    thread.start()
    thread.join()
    try:
        raise ValueError(f"refused {password}")
    except ValueError:
        library.exception("caught", stack_info=True)
