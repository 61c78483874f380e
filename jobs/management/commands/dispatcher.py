"""`manage.py dispatcher`: issue tickets, rescue jobs, until told to stop. Any number of them may run."""

import logging
import signal
import socket
import threading
import time
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import DatabaseError, InterfaceError, connection

from jobs import dispatch, rescue, ringing
from jobs.liveness import Heartbeat
from jobs.losses import LossDetector
from jobs.models import Worker

logger = logging.getLogger("jobs.dispatch")
STRAYS_EVERY = 60.0


class Command(BaseCommand):
    help = "Issues due tickets, expires late jobs and rescues jobs of dead workers, every second."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--name", default=f"dispatcher@{socket.gethostname()}")

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        heartbeat = Heartbeat(Worker.Kind.DISPATCHER, options["name"], queues=[])
        heartbeat.start()
        logger.info("dispatcher started", extra={"name_": options["name"]})
        _sweep_until(stop)
        heartbeat.leave()


def _sweep_until(stop: threading.Event) -> None:
    view, seldom, losses = rescue.View(), _Seldom(), LossDetector()
    # A ticket known to be lost does not wait for the next whole second.
    while not stop.wait(min(settings.DISPATCH_SECONDS, losses.patience())):
        try:
            for step in (dispatch.issue, dispatch.issue_paced, ringing.ring_due, losses.sweep):
                view.look()
                step()
            rescue.sweep(view)
            seldom.run(settings.HEARTBEAT_SECONDS, dispatch.sample)
            # A claim refuses what is late; that its row says so may wait.
            seldom.run(settings.HEARTBEAT_SECONDS, dispatch.expire)
            seldom.run(STRAYS_EVERY, rescue.sweep_strays)
        except (psycopg.Error, DatabaseError, InterfaceError) as error:
            view.broke()
            connection.close_if_unusable_or_obsolete()
            logger.warning("sweep failed", extra={"reason": str(error).strip()})


class _Seldom:
    """Runs a duty when its interval has passed."""

    def __init__(self) -> None:
        self._last: dict[Callable[[], Any], float] = {}

    def run(self, interval: float, duty: Callable[[], Any]) -> None:
        if time.monotonic() - self._last.get(duty, float("-inf")) >= interval:
            duty()
            self._last[duty] = time.monotonic()
