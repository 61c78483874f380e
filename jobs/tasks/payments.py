"""Charge a customer through the payment gateway."""

from decimal import Decimal
from typing import Annotated, Any

import httpx
from celery import shared_task
from django.conf import settings
from pydantic import Field

from jobs.errors import Abandon
from jobs.outbound import tls
from jobs.task import JobTask
from jobs.tasks.answers import LATER, Unavailable, address, demand_success, header_key

TIMEOUT = httpx.Timeout(15, connect=5)
# 409: a first call with the same key is still running there.
STILL_BUSY = LATER | {409}

UserId = Annotated[str, Field(min_length=1, max_length=200)] | int
# Twelve digits survive the way through a JSON number without a trace of binary fractions.
Amount = Annotated[Decimal, Field(gt=0, max_digits=12, decimal_places=2)]
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$")]


@shared_task(base=JobTask, name="process_payment", bind=True)
def process_payment(self: JobTask, user_id: UserId, amount: Amount, currency: Currency) -> dict[str, Any]:
    """Charge once: the gateway knows the job by its idempotency key, however many attempts it takes."""
    order = {"user_id": user_id, "amount": _number(amount), "currency": currency}
    return {**self.job.once("charge", lambda: _charge(self, order)), **order}


def _charge(task: JobTask, order: dict[str, Any]) -> dict[str, str]:
    headers = {"Idempotency-Key": header_key(task.job.idempotency_key)}
    with httpx.Client(timeout=TIMEOUT, verify=tls()) as client:
        response = client.post(f"{_gateway()}/charges", json=order, headers=headers)
    demand_success(task, response, later=STILL_BUSY)
    return _receipt(response)


def _gateway() -> str:
    url: str = settings.PAYMENT_GATEWAY_URL.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise Abandon(f"PAYMENT_GATEWAY_URL is {url!r}: set it to the gateway's http(s) address, then replay this job.")
    return url


def _number(amount: Decimal) -> int | float:
    """As a JSON number: 120 rather than 120.0."""
    return int(amount) if amount == amount.to_integral_value() else float(amount)


def _receipt(response: httpx.Response) -> dict[str, str]:
    """An answer without a charge_id may hide a charge; asking again under the same key is safe and tells."""
    try:
        answer = response.json()
        return {"status": str(answer.get("status", "charged")), "charge_id": str(answer["charge_id"])}
    except (ValueError, KeyError, AttributeError):
        raise Unavailable(f"{address(response.request.url)} answered without a charge_id.") from None
