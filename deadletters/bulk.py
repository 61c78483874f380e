"""Dropping and purging every letter that matches a filter: acts that operations of `jobs` carry out."""

from collections.abc import Mapping
from typing import Any

from deadletters.drop import drop_together
from deadletters.models import DeadLetter
from deadletters.purge import purge_together
from deadletters.querysets import DeadLetterQuerySet
from jobs.browsing import identified
from jobs.models import Job, JobLabel
from jobs.operations import ACTS, Act

OPEN = "OPEN"


def chosen(asked: Mapping[str, Any]) -> DeadLetterQuerySet:
    """The letters of a filter as operations keep it; everything that is given must hold.

    `label` is a job's ("tag:vip", "user:7"), `identity` an idempotency key, or a job's id or its beginning.
    """
    columns = dict(asked)
    resolution, label, identity = (columns.pop(name, None) for name in ("resolution", "label", "identity"))
    letters = DeadLetter.objects.matching(**columns)
    if resolution is not None:
        letters = letters.filter(resolution=None if resolution == OPEN else resolution)
    if label is not None:
        letters = letters.filter(job__in=JobLabel.objects.filter(label=label).values("job"))
    if identity is not None:
        letters = letters.filter(job__in=identified(Job.objects.all(), identity).values("pk"))
    return letters


ACTS["drop"] = Act(
    among="open dead letters",
    candidates=lambda asked: chosen(asked).open(),
    rows=DeadLetter.objects.only("pk", "job_id", "resolution", "resolved_by"),
    do=drop_together,
    overtaken="they were resolved before their turn",
)
ACTS["purge"] = Act(
    among="resolved dead letters",
    candidates=lambda asked: chosen(asked).resolved(),
    rows=DeadLetter.objects.only("pk", "job_id", "resolution"),
    do=purge_together,
    moment="resolved_at",
    overtaken="they were purged before their turn",
)
