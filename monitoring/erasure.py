"""Deleting one customer's jobs, found by a value in their payload; the privacy request of somebody who leaves.

Only what is over goes: an unfinished job would come back to life in its worker's hands, and an open letter
waits for a decision. Both are counted, so that the caller can cancel, or drop, and ask again.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from deadletters.models import DeadLetter
from jobs.models import Event, Job
from monitoring.models import Report

PURGED = "purged"
BATCH = 500


@dataclass(frozen=True)
class Erased:
    """Ids of what went, or would go, and of what has to be decided first."""

    jobs: list[UUID]
    reports: int
    unfinished: list[UUID]
    with_open_letter: list[UUID]

    @property
    def is_complete(self) -> bool:
        return not self.unfinished and not self.with_open_letter


def erase(field: str, value: str, *, task: str | None, actor: str, reason: str, dry_run: bool = False) -> Erased:
    """Delete every finished job whose payload has, or had before an edit, this value in this field."""
    found = _found(field, value, task)
    open_letters = DeadLetter.objects.open().filter(job=OuterRef("pk"))
    unfinished = list(found.filter(finished_at=None).values_list("pk", flat=True))
    undecided = list(found.filter(Exists(open_letters)).values_list("pk", flat=True))
    over = list(found.exclude(finished_at=None).filter(~Exists(open_letters)).values_list("pk", flat=True))
    reports = _reports(over).count() if dry_run else _delete(over, field, value, actor, reason)
    return Erased(over, reports, unfinished, undecided)


def _found(field: str, value: str, task: str | None) -> QuerySet[Job]:
    """Reads every job: labels know only what a policy listed as searchable when the job was submitted."""
    now, edited = Q(), Q()
    for wanted in _readings(value):
        now |= Q(payload__contains={field: wanted})
        edited |= Q(payload_before__contains={field: wanted}) | Q(payload_after__contains={field: wanted})
    found = Job.objects.filter(now | Q(pk__in=DeadLetter.objects.filter(edited).values("job_id")))
    return (found.filter(task=task) if task else found).order_by("pk")


def _readings(value: str) -> list[Any]:
    """42 is a text in some payloads and a number in others."""
    try:
        return [value, json.loads(value)]
    except ValueError:
        return [value]


def _reports(jobs: list[UUID]) -> QuerySet[Report]:
    """Reports about a customer are made by jobs that name the customer."""
    return Report.objects.filter(job__in=jobs)


def _delete(jobs: list[UUID], field: str, value: str, actor: str, reason: str) -> int:
    """In batches, each with its line in the audit trail, which must not keep what was to be forgotten."""
    digest, reports = hashlib.sha256(value.encode()).hexdigest()[:16], 0
    for start in range(0, len(jobs), BATCH):
        batch = jobs[start : start + BATCH]
        with transaction.atomic():
            gone, _ = _reports(batch).delete()
            # A replay may have revived one since it was found.
            deleted = list(Job.objects.filter(pk__in=batch).exclude(finished_at=None).values_list("pk", flat=True))
            Job.objects.filter(pk__in=deleted).exclude(finished_at=None).delete()
            details = {"field": field, "value_sha256": digest, "jobs": [str(job) for job in deleted], "reports": gone}
            Event.objects.create(verb=PURGED, actor=actor, reason=reason, details=details)
        reports += gone
    return reports
