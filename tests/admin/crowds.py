"""Thousands of dead letters at once, made by PostgreSQL from one."""

from typing import Any

from django.db import connection

from deadletters.models import DeadLetter
from jobs.models import Job
from tests.browser.failed import make_failed


def crowd_of_failed(count: int, error: str, fingerprint: str) -> None:
    """So many jobs that failed for good, with their letters, all alike."""
    [letter] = make_failed(1, error, fingerprint)
    job, about = _columns(Job, "id"), _columns(DeadLetter, "id", "job_id")
    with connection.cursor() as cursor:
        cursor.execute(
            f"""WITH jobs AS (
                  INSERT INTO jobs_job (id, {job})
                  SELECT gen_random_uuid(), {job} FROM jobs_job, generate_series(2, %s) WHERE id = %s RETURNING id)
                INSERT INTO deadletters_deadletter (job_id, {about})
                SELECT jobs.id, {about} FROM jobs, deadletters_deadletter AS letter WHERE letter.id = %s""",
            [count, letter.job_id, letter.pk],
        )


def _columns(model: Any, *without: str) -> str:
    return ", ".join(each.column for each in model._meta.concrete_fields if each.column not in without)
