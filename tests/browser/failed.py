"""Jobs that have failed for good, with their letters, as many as wanted and without running them."""

from typing import Any

from django.utils import timezone

from deadletters.models import DeadLetter
from jobs.models import Job
from jobs.states import State


def make_failed(
    count: int, error: str, fingerprint: str, *, task: str = "flaky", payload: Any = None
) -> list[DeadLetter]:
    now = timezone.now()
    given = {"failures": 0} if payload is None else payload
    ended = {"state": State.FAILURE, "attempt": 4, "retries": 3, "finished_at": now, "started_at": now}
    said = {"error_code": error.partition(":")[0], "error": error, "fingerprint": fingerprint}
    said["traceback"] = f'Traceback (most recent call last):\n  File "billing/tasks.py", line 7, in send\n{error}'
    limits = {"task": task, "queue": "default", "payload": given, "max_retries": 3, "max_deaths": 3}
    jobs = Job.objects.bulk_create((Job(**limits, **ended, **said) for _ in range(count)), batch_size=500)
    about = {"attempt": 4, "task": task, "queue": "default", "cause": "EXHAUSTED"}
    return DeadLetter.objects.bulk_create(
        (DeadLetter(job=job, **about, reason=error, fingerprint=fingerprint) for job in jobs), batch_size=500
    )
