"""Looking at the metrics again and again, and telling people what the conditions find."""

import time
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
from django.conf import settings

from monitoring import notices
from monitoring.alarms import Alarms, Notice
from monitoring.conditions import findings
from monitoring.history import History, Samples, samples
from monitoring.metrics import JobCollector

PATIENCE_SECONDS = 10.0
WEB_SECONDS = 5.0
NOBODY_ANSWERS: Samples = {"switchyard_database_up": {(): 0.0}, "switchyard_redis_up": {(): 1.0}}


class Watch:
    """What one watching process remembers between looks."""

    def __init__(self) -> None:
        self.history = History()
        self.alarms = Alarms()
        self.channels = notices.channels()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="collect")
        self._collecting: Future[Samples] | None = None

    def look(self) -> list[Notice]:
        """Look once and tell what is new."""
        self.history.add(time.monotonic(), self._collect() | _web())
        return self.tell(self.alarms.update(findings(self.history), time.monotonic()))

    def tell(self, news: list[Notice]) -> list[Notice]:
        for notice in news:
            notices.log(notice)
        for channel in self.channels:
            channel.deliver(news)
        return news

    def _collect(self) -> Samples:
        """In a thread that may hang: a frozen PostgreSQL must not silence the one that is to report it."""
        if self._collecting is None or self._collecting.done():
            self._collecting = self._thread.submit(lambda: samples(JobCollector().collect()))
        try:
            return self._collecting.result(timeout=PATIENCE_SECONDS)
        except TimeoutError:
            return NOBODY_ANSWERS


def _web() -> Samples:
    if not settings.WATCH_WEB_URL:
        return {}
    try:
        up = httpx.get(settings.WATCH_WEB_URL, timeout=WEB_SECONDS, trust_env=False).is_success
    except httpx.HTTPError:
        up = False
    return {"switchyard_web_up": {(): float(up)}}
