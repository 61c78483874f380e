"""Noting duplicates: tickets that came when their job ran or was over, unlike those that came early."""

import contextlib
from typing import Any
from uuid import UUID

import psycopg
from django.dispatch import receiver

from jobs.connections import own
from jobs.signals import ticket_refused
from monitoring.rollups import REFUSED

_NOTE = f"""
INSERT INTO jobs_event (at, job_id, verb, actor, reason, details)
SELECT clock_timestamp(), id, '{REFUSED}', 'worker', '', jsonb_build_object('state', state) FROM jobs_job
 WHERE id = %(job)s AND (finished_at IS NOT NULL OR state = 'STARTED')
"""


@receiver(ticket_refused)
def note(job_id: UUID, **_: Any) -> None:
    """A count is not worth an attempt: without a database there is none."""
    with contextlib.suppress(psycopg.Error):
        own().rows(_NOTE, {"job": job_id})
