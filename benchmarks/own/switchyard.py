"""Switchyard, every job recorded and with an idempotency key."""

import os
import sys
from uuid import uuid4

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django

django.setup()

import redis
from django.conf import settings
from django.core.management import call_command
from django.db import connection

import benchmarks.own.tasks
from benchmarks.own.steady import steady
from benchmarks.peers.driving import drive
from config.celery import app
from jobs.bulk import submit_in_chunks
from jobs.drafting import draft
from jobs.submission import submit

TASK = f"bench_{os.environ.get('BENCH_DELIVERY', 'each')}"
_WINDOW = """
SELECT count(*) FILTER (WHERE state = 'SUCCESS'), extract(epoch FROM max(finished_at) - min(started_at))
  FROM jobs_job WHERE task = %s
"""


def prepare() -> None:
    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM jobs_job WHERE task LIKE 'bench%%'")
        if _has_history(cursor):
            cursor.execute("VACUUM ANALYZE jobs_job, jobs_idempotencykey")
        else:
            # Not vacuumed: PostgreSQL would plan for an empty table, and keep that plan while it fills.
            cursor.execute("TRUNCATE jobs_job, jobs_batch CASCADE")
    redis.Redis.from_url(settings.REDIS_URL).flushdb()


def _has_history(cursor) -> bool:
    cursor.execute("SELECT EXISTS (SELECT FROM jobs_job)")
    return cursor.fetchone()[0]


def window() -> None:
    """How many were recorded, and the seconds from the first claim to the last settlement."""
    with connection.cursor() as cursor:
        cursor.execute(_WINDOW, [TASK])
        print(*cursor.fetchone())


def bulk(payloads) -> None:
    drafts = (draft(TASK, payload, key=str(uuid4())) for payload in payloads)
    for _ in submit_in_chunks(drafts, read_ahead=True):
        pass


if __name__ == "__main__":
    assert app and benchmarks.own.tasks
    if sys.argv[1] == "window":
        window()
    elif sys.argv[1] == "steady":
        steady(int(sys.argv[2]))
    else:
        drive(prepare=prepare, submit=lambda payload: submit(TASK, payload, key=str(uuid4())), bulk=bulk)
