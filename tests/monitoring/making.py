"""Rows as the job system leaves them behind, at times of a test's choosing."""

from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import uuid4

from deadletters.models import DeadLetter
from jobs.models import Attempt, Event, Job

QUEUES, TASKS = ("high", "default", "low"), ("send_email", "process_data", "slow")


def make_finished(
    task: str = "process_data",
    *,
    queue: str = "default",
    state: str = "SUCCESS",
    at: datetime,
    wait: float = 1.0,
    run: float = 2.0,
    **fields: Any,
) -> Job:
    """A job that ended at `at` after waiting and running for so many seconds."""
    started = at - timedelta(seconds=run)
    due = started - timedelta(seconds=wait)
    return Job.objects.create(
        task=task,
        queue=queue,
        state=state,
        max_retries=3,
        max_deaths=3,
        attempt=1,
        created_at=fields.pop("created_at", due),
        run_at=due,
        started_at=started,
        finished_at=at,
        worker_id=uuid4(),
        claim_token=uuid4(),
        **fields,
    )


def make_attempt(job: Job, number: int, outcome: str, *, at: datetime, **fields: Any) -> Attempt:
    return Attempt.objects.create(
        job=job,
        number=number,
        outcome=outcome,
        due_at=at - timedelta(seconds=5),
        started_at=at - timedelta(seconds=2),
        ended_at=at,
        **fields,
    )


def make_letter(job: Job, *, at: datetime, **fields: Any) -> DeadLetter:
    given = {"cause": "EXHAUSTED", "reason": "RuntimeError: no", "fingerprint": "f", "attempt": job.attempt} | fields
    return DeadLetter.objects.create(job=job, task=job.task, queue=job.queue, created_at=at, **given)


def make_history(random: Random, *, count: int, since: datetime, until: datetime) -> None:
    """Jobs of every kind with everything that may hang on them, spread over a stretch of time."""

    def moment() -> datetime:
        return since + (until - since) * random.random()

    for index in range(count):
        state = random.choice(["SUCCESS", "SUCCESS", "SUCCESS", "FAILURE", "REVOKED"])
        job = make_finished(
            random.choice(TASKS),
            queue=random.choice(QUEUES),
            state=state,
            at=moment(),
            wait=random.expovariate(0.5),
            run=random.choice([0.001, 0.02, 0.3, 4, 50, 700, 5000]) * random.random(),
            # Nothing happens before the first job.
            created_at=moment() if index else since,
        )
        _make_past(random, job, moment)


def _make_past(random: Random, job: Job, moment: Any) -> None:
    for number in range(random.randrange(3)):
        outcome = random.choice(["RETRY", "LOST", "RELEASED"])
        fenced = moment() if random.random() < 0.1 else None
        make_attempt(job, number + 10, outcome, at=moment(), delay=2.0, fenced_at=fenced)
    if random.random() < 0.1:
        Attempt.objects.create(job=job, number=30, outcome="FENCED", ended_at=moment(), fenced_at=moment())
    if job.state == "FAILURE":
        make_attempt(job, 20, random.choice(["FAILURE", "LOST"]), at=moment(), delay=None)
        make_letter(job, at=moment())
    if job.state == "REVOKED" and random.random() < 0.5:
        make_attempt(job, 20, "REVOKED", at=moment(), delay=None)
    elif job.state == "REVOKED":
        Event.objects.create(job=job, verb=random.choice(["cancelled", "expired"]), at=moment())
    for verb in ("retry now", "ticket republished", "ticket refused", "ticket refused"):
        if random.random() < 0.3:
            Event.objects.create(job=job, verb=verb, at=moment())
