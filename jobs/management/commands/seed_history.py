"""`manage.py seed_history --rows N`: finished jobs of the past, to measure how everything else fares beside them."""

import time
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import connection, transaction

from jobs.management.progress import progress

CHUNK = 250_000
# Made up: spread over the retention's days, one in a hundred revoked, ids of their time.
_SEED = """
WITH made AS (
  SELECT clock_timestamp() - make_interval(days => %(days)s) * (%(first)s + n)::float / %(rows)s AS at, n
    FROM generate_series(1, %(count)s) AS n
)
INSERT INTO jobs_job (id, task, queue, payload, state, attempt, retries, max_retries, deaths, max_deaths, created_at,
                      run_at, dispatched_at, dispatch_no, started_at, finished_at, worker_id, claim_token, result, tags)
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(random()::text), 1, 3)
        || '8' || substr(md5(random()::text), 1, 15))::uuid,
       (ARRAY['process_data', 'send_email', 'generate_report'])[1 + n %% 3],
       (ARRAY['default', 'high', 'low'])[1 + n %% 3], jsonb_build_object('records', jsonb_build_array(), 'seeded', n),
       CASE WHEN n %% 100 = 0 THEN 'REVOKED' ELSE 'SUCCESS' END, (n %% 100 <> 0)::int, 0, 3, 0, 3, at, at, at, 1,
       at + interval '5 ms', at + interval '25 ms', '00000000-0000-7000-8000-000000000000', gen_random_uuid(),
       '{"status": "processed"}', '{}'
  FROM made
"""


class Command(BaseCommand):
    help = "Fills the job table with finished jobs, so that growth can be measured. Never on a table that matters."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--rows", type=int, required=True, metavar="N")

    def handle(self, *args: Any, **options: Any) -> None:
        rows, began = options["rows"], time.monotonic()
        with progress("Seeded", rows) as tell:
            for first in range(0, rows, CHUNK):
                _seed(first, min(CHUNK, rows - first), rows)
                tell(min(first + CHUNK, rows))
        with connection.cursor() as cursor:
            cursor.execute("VACUUM (ANALYZE) jobs_job")
        self.stdout.write(f"seeded {rows:,} finished jobs in {time.monotonic() - began:.0f} s")


def _seed(first: int, count: int, rows: int) -> None:
    names = {"first": first, "count": count, "rows": rows, "days": settings.RETENTION_DAYS}
    with transaction.atomic(), connection.cursor() as cursor:
        # History is made in its final state: there is no move for the trigger to judge, and no commit to wait for.
        cursor.execute("SET LOCAL synchronous_commit = off")
        cursor.execute(_SEED, names)
