"""What an HTTP answer means for a job: done, try again (and when), or never."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote

import httpx

from jobs.errors import Abandon
from jobs.task import JobTask

# Request Timeout, Too Early, Too Many Requests: the 4xx that say "later" rather than "no".
LATER = frozenset({408, 425, 429})
EXCERPT_BYTES = 500
LEGAL_KEY = re.compile(r"[!-$&-~]([ -$&-~]*[!-$&-~])?")
# An excerpt of bounded size must not unpack to more.
UNPACKED = {"Accept-Encoding": "identity", "User-Agent": "Switchyard"}


class Unavailable(Exception):
    """The other side could not answer now; worth another try."""


def demand_success(task: JobTask, response: httpx.Response, *, later: frozenset[int] = LATER) -> None:
    """Return for a 2xx; ask for another try when the other side may recover, else abandon the job.

    A Retry-After is obeyed up to the cap of the task's own backoff.
    """
    if response.is_success:
        return
    said = f"{address(response.request.url)} answered {response.status_code}{_reason(response)}"
    if response.is_server_error or response.status_code in later:
        asked = retry_after(response.headers.get("Retry-After", ""), now=datetime.now(UTC))
        task.retry(exc=Unavailable(said), countdown=asked and min(asked, task.policy.backoff.cap))
    raise Abandon(said)


def retry_after(value: str, *, now: datetime) -> float | None:
    """The seconds that a Retry-After header asks to wait; None when it asks for nothing intelligible."""
    try:
        seconds = float(int(value)) if value.isdecimal() else (_date(value) - now).total_seconds()
    except (ValueError, OverflowError):
        return None
    return seconds if seconds > 0 else None


def header_key(key: str) -> str:
    """The idempotency key as a header can carry it: itself, unless it holds what a header may not."""
    return key if LEGAL_KEY.fullmatch(key) else quote(key, safe="")


def address(url: httpx.URL) -> str:
    """A URL without what may be secret in it: user, password and query."""
    return f"{url.scheme}://{url.netloc.decode()}{url.path}"


def excerpt(response: httpx.Response) -> str:
    """The first bytes of a streamed answer as one line of text; the rest is never read."""
    return " ".join(_first_bytes(response.iter_raw(EXCERPT_BYTES)).decode(errors="replace").split())


def _first_bytes(chunks: Iterator[bytes]) -> bytes:
    return next(chunks, b"")[:EXCERPT_BYTES]


def _date(value: str) -> datetime:
    moment = parsedate_to_datetime(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _reason(response: httpx.Response) -> str:
    text = response.text if response.is_stream_consumed else excerpt(response)
    return f": {text[:EXCERPT_BYTES]}" if text else ""
