"""`manage.py watch`: the alerts for installations without Prometheus; it says what beat and jobs cannot."""

import logging
import os
import signal
import socket
import threading
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from jobs.liveness import Heartbeat
from jobs.models import Worker
from monitoring.watching import Watch

logger = logging.getLogger("monitoring.watch")


class Command(BaseCommand):
    help = "Looks at the metrics every WATCH_SECONDS and tells WATCH_RECIPIENTS and WATCH_WEBHOOK_URL what is wrong."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--name", default=f"watch@{socket.gethostname()}")

    def handle(self, *args: Any, **options: Any) -> None:
        os.environ.setdefault("PGCONNECT_TIMEOUT", "2")
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        heartbeat = Heartbeat(Worker.Kind.WATCH, options["name"], queues=[])
        # Enlisting waits for the database, whose absence is the first thing to tell.
        enlisting = threading.Thread(target=heartbeat.start, name="enlist", daemon=True)
        enlisting.start()
        watch = Watch()
        logger.info("watch started", extra={"channels": [channel.name for channel in watch.channels]})
        while True:
            watch.look()
            if stop.wait(settings.WATCH_SECONDS):
                break
        if not enlisting.is_alive():
            heartbeat.leave()
