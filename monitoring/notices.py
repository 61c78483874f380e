"""Telling people: by mail and by webhook (the body Slack, Mattermost and Discord's /slack understand)."""

import logging
from collections import deque
from collections.abc import Callable

import httpx
from django.conf import settings
from django.core.mail import send_mail

from monitoring.alarms import Notice

logger = logging.getLogger("monitoring.watch")
WEBHOOK_SECONDS = 10.0
# While a channel is away; what is older than this many notices nobody would read.
MOST_WAITING = 200
WORDS = {"raised": "FIRING", "still": "STILL FIRING", "over": "OVER"}


class Channel:
    """Delivers in order; what did not go out waits for the next look."""

    def __init__(self, name: str, send: Callable[[list[Notice]], None]) -> None:
        self.name = name
        self._send = send
        self._waiting: deque[Notice] = deque(maxlen=MOST_WAITING)

    def deliver(self, notices: list[Notice]) -> None:
        self._waiting.extend(notices)
        if not self._waiting:
            return
        try:
            self._send(list(self._waiting))
        except (OSError, httpx.HTTPError) as error:
            logger.warning("notices wait", extra={"channel": self.name, "reason": str(error)})
            return
        self._waiting.clear()


def channels() -> list[Channel]:
    """Those the settings name."""
    wanted = {"mail": (settings.WATCH_RECIPIENTS, _mail), "webhook": (settings.WATCH_WEBHOOK_URL, _post)}
    return [Channel(name, send) for name, (address, send) in wanted.items() if address]


def log(notice: Notice) -> None:
    level = logging.INFO if notice.kind == "over" else logging.ERROR
    fields = {"alert": notice.condition.name, "subject": notice.subject, "severity": notice.condition.severity}
    logger.log(level, "alert %s", notice.kind, extra=fields | {"text": notice.text})


def line(notice: Notice) -> str:
    return f"{WORDS[notice.kind]} {notice.condition.name}: {notice.text} ({runbook(notice)})"


def runbook(notice: Notice) -> str:
    """The section about this alert: its name in lower case is its anchor."""
    return f"{settings.RUNBOOK_URL}#{notice.condition.name.lower()}"


def _mail(notices: list[Notice]) -> None:
    first, *rest = [line(notice) for notice in notices]
    subject = f"[switchyard] {first.partition(' (')[0]}" + (f" and {len(rest)} more" if rest else "")
    # smtplib's errors are OSErrors
    send_mail(subject[:200], "\n".join([first, *rest]), None, settings.WATCH_RECIPIENTS)


def _post(notices: list[Notice]) -> None:
    body = {"text": "\n".join(line(notice) for notice in notices)}
    httpx.post(settings.WATCH_WEBHOOK_URL, json=body, timeout=WEBHOOK_SECONDS).raise_for_status()
