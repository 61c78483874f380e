"""Tasks and switches for workers under test; loaded with `celery worker -I tests.chaos.outage_tasks`."""

import os
import time
from typing import Any

import httpx
from celery import current_app, shared_task
from django.conf import settings

from jobs.task import JobTask

if timeout := os.environ.get("CHAOS_VISIBILITY_TIMEOUT"):
    # Tickets come again while their job still runs, and soon.
    current_app.conf.broker_transport_options |= {
        "visibility_timeout": float(timeout),
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    }


@shared_task(base=JobTask, name="outage_nap", bind=True)
def nap(self: JobTask, seconds: float) -> int:
    """Take a while without asking anybody anything."""
    time.sleep(seconds)
    return self.job.attempt  # type: ignore[union-attr]


@shared_task(base=JobTask, name="outage_come_back", bind=True)
def come_back(self: JobTask, seconds: float) -> str:
    """Ask to be run again in so many seconds, once."""
    if self.job.attempt == 1:  # type: ignore[union-attr]
        self.retry(countdown=seconds)
    return "back"


@shared_task(base=JobTask, name="outage_charge", bind=True)
def charge(self: JobTask, seconds: float) -> dict[str, Any]:
    """Charge under the job's key on every attempt, then take a while."""
    order = {"user_id": "u", "amount": 5, "currency": "EUR"}
    headers = {"Idempotency-Key": self.job.idempotency_key}  # type: ignore[union-attr]
    answer = httpx.post(f"{settings.PAYMENT_GATEWAY_URL}/charges", json=order, headers=headers, timeout=10)
    time.sleep(seconds)
    return answer.json()
