"""Tell another system something, signed, at an address of its own choosing."""

import json
import time
from typing import Annotated, Any

import httpx
from celery import shared_task
from django.conf import settings
from pydantic import AfterValidator, Field

from jobs import outbound
from jobs.errors import Abandon, InvalidJob
from jobs.task import JobTask
from jobs.tasks.answers import UNPACKED, address, demand_success, header_key
from jobs.tasks.signing import HEADER, sign

TIMEOUT = httpx.Timeout(10, connect=5)
MAX_REDIRECTS = 3
# 303 is missing: it says that the message was taken and something may be fetched elsewhere.
MOVED = frozenset({301, 302, 307, 308})


def _reachable(url: str) -> str:
    try:
        outbound.check_url(url, "/url")
    except InvalidJob as error:
        raise ValueError(error.reason) from None
    return url


Url = Annotated[str, Field(max_length=2000), AfterValidator(_reachable)]


@shared_task(base=JobTask, name="deliver_webhook", bind=True)
def deliver_webhook(self: JobTask, url: Url, body: dict[str, Any]) -> dict[str, Any]:
    """POST a signed JSON body; the receiver checks it with `jobs.tasks.signing.verify`."""
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    headers = UNPACKED | {
        "Content-Type": "application/json",
        "Idempotency-Key": header_key(self.job.idempotency_key),
        HEADER: sign(content, settings.WEBHOOK_SECRET, timestamp=int(time.time())),
    }
    try:
        with outbound.client(timeout=TIMEOUT) as client:
            status = _post(self, client, httpx.URL(url), content, headers)
    except outbound.Forbidden as error:
        raise Abandon(f"The webhook to {address(httpx.URL(url))} was not delivered: {error}.") from error
    return {"status": "delivered", "status_code": status, "url": url}


def _post(task: JobTask, client: httpx.Client, url: httpx.URL, content: bytes, headers: dict[str, str]) -> int:
    """POST, and POST again where the receiver has moved; each address is checked by the client. Returns the status."""
    for _ in range(MAX_REDIRECTS + 1):
        with client.stream("POST", url, content=content, headers=headers) as response:
            if response.status_code not in MOVED:
                demand_success(task, response)
                return response.status_code
            url = _moved_to(response)
    raise Abandon(f"The webhook was redirected more than {MAX_REDIRECTS} times; use the final address.")


def _moved_to(response: httpx.Response) -> httpx.URL:
    here = response.request.url
    if "Location" not in response.headers:
        raise Abandon(f"{address(here)} answered {response.status_code} without saying where it moved.")
    there = here.join(response.headers["Location"])
    if here.scheme == "https" and there.scheme != "https":
        raise Abandon(f"{address(here)} redirects to {address(there)}, which is not encrypted; use an https address.")
    return there
