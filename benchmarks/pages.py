"""`python -m benchmarks.pages`: how long the server takes for each page of the panel, beside millions of jobs.

Starts servers of its own and seeds them; with --here it takes DATABASE_URL and REDIS_URL as they are, seeded before.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from local.postgres import Postgres
from local.readiness import free_port
from local.valkey import Valkey

ROOT = Path(__file__).resolve().parent.parent
LIMIT_MS = 300
ROUNDS = 5
# What seed_history leaves out: keys, labels, letters of three kinds, attempts, jobs that wait, rollups of seven days.
BESIDE = """
CREATE TEMP TABLE newest AS
  SELECT id, row_number() OVER (ORDER BY created_at DESC, id DESC) AS n FROM jobs_job LIMIT %(labelled)s;
INSERT INTO jobs_idempotencykey (job_id, scope, key, fingerprint, created_at, expires_at)
  SELECT id, 'bench', 'order-' || n, '', now(), now() + interval '1 day' FROM newest ON CONFLICT DO NOTHING;
INSERT INTO jobs_joblabel (job_id, label)
  SELECT id, 'user_id:usr_' || n %% 5000 FROM newest UNION ALL SELECT id, 'tag:vip' FROM newest WHERE n %% 3 = 0
  ON CONFLICT DO NOTHING;
CREATE TEMP TABLE failed AS
  SELECT gen_random_uuid() AS id, clock_timestamp() - random() * interval '1 day' AS at, n
    FROM generate_series(1, 10000) AS n;
INSERT INTO jobs_job (id, task, queue, payload, state, attempt, retries, max_retries, deaths, max_deaths, created_at,
                      run_at, started_at, finished_at, dispatch_no, tags, error_code, error, traceback, fingerprint)
  SELECT id, 'flaky', 'default', '{"failures": 0}', 'FAILURE', 4, 3, 3, 0, 3, at, at, at, at, 4, '{}', 'ReadTimeout',
         'ReadTimeout: no answer', 'Traceback', 'bench-' || n %% 3 FROM failed;
INSERT INTO deadletters_deadletter (job_id, attempt, task, queue, cause, reason, fingerprint, worker_name, created_at,
                                    resolved_by, resolved_reason)
  SELECT id, 4, 'flaky', 'default', 'EXHAUSTED', 'ReadTimeout: no answer', 'bench-' || n %% 3, '', at, '', ''
    FROM failed;
INSERT INTO jobs_attempt (job_id, number, outcome, due_at, started_at, ended_at, worker_name, error_code, error,
                          traceback, fingerprint)
  SELECT id, number, 'RETRY', at, at, at, 'w', 'ReadTimeout', 'no answer', '', '' FROM failed,
         generate_series(1, 4) AS number;
INSERT INTO jobs_effect (job_id, name, outcome, at) SELECT id, 'charge', '{"id": 1}', now() FROM newest;
WITH replay AS (
  INSERT INTO deadletters_replayoperation (filter, reason, pace, state, total, done, skipped, created_by, created_at)
  VALUES ('{"fingerprint": "bench-1"}', 'x', 100, 'DONE', 10000, 9000, 1000, 'mira', now()) RETURNING id)
  INSERT INTO deadletters_replayitem (operation_id, letter_id, state, note, at)
  SELECT replay.id, letter.id, CASE WHEN letter.id %% 10 = 0 THEN 'SKIPPED' ELSE 'REPLAYED' END, '', now()
    FROM replay, deadletters_deadletter AS letter;
INSERT INTO jobs_event (at, job_id, verb, actor, reason, details)
  SELECT at, id, 'cancel requested', 'mira', 'x', '{}' FROM failed;
INSERT INTO jobs_job (id, task, queue, payload, state, attempt, retries, max_retries, deaths, max_deaths, created_at,
                      run_at, dispatch_no, tags)
  SELECT gen_random_uuid(), 'flaky', (ARRAY['high', 'default', 'low'])[1 + n %% 3], '{"failures": 0}', 'PENDING', 0, 0,
         3, 0, 3, clock_timestamp(), clock_timestamp(), 0, '{}' FROM generate_series(1, 5000) AS n;
INSERT INTO monitoring_rollup (minute, queue, task, submitted, started, succeeded, failed, retried, dead_lettered,
                               revoked, deaths, released, fenced, republished, duplicates, wait_buckets, run_buckets,
                               wait_ms_sum, run_ms_sum)
  SELECT date_trunc('minute', now()) - n * interval '1 minute', queue, task, 40, 40, 38, 2, 3, 1, 0, 0, 0, 0, 0, 0,
         array_fill(1, ARRAY[%(buckets)s]), array_fill(1, ARRAY[%(buckets)s]), 4000, 4000
    FROM generate_series(1, 10080) AS n, unnest(ARRAY['high', 'default', 'low']) AS queue,
         unnest(ARRAY['send_email', 'process_data', 'flaky', 'generate_report']) AS task ON CONFLICT DO NOTHING;
"""
GROUPS = "/admin/deadletters/deadletter/groups/"


def main() -> None:
    options = _options()
    if not options.here:
        with servers(Path(options.directory)) as environment:
            manage(environment, "migrate", "--verbosity", "0")
            manage(environment, "seed_history", "--rows", str(options.rows))
            again = [sys.executable, "-m", "benchmarks.pages", "--here", "--rows", str(options.rows)]
            sys.exit(subprocess.run(again, cwd=ROOT, env=environment, check=False).returncode)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    seed_beside(min(1_000_000, options.rows))
    sys.exit(_measure())


def _measure() -> int:
    """Print a line a page; the number of pages that were over the limit even once."""
    slow = 0
    browser = _browser()
    print("| page | median ms | worst ms | queries | slowest query ms |\n|---|---|---|---|---|")
    for name, address in _pages():
        times, queries = _times(browser, address)
        slowest = max((float(query["time"]) for query in queries), default=0) * 1000
        slow += max(times) > LIMIT_MS
        print(
            f"| {name} | {statistics.median(times):.0f} | {max(times):.0f} | {len(queries)} | {slowest:.0f} |",
            flush=True,
        )
        if max(times) > LIMIT_MS:
            print(max(queries, key=lambda query: float(query["time"]))["sql"][:2000], file=sys.stderr)
    return slow


def _times(browser: Any, address: str) -> tuple[list[float], list[dict[str, str]]]:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from monitoring import charts

    times = []
    for _ in range(ROUNDS + 1):
        charts._answers.clear()
        with CaptureQueriesContext(connection) as asked:
            began = time.perf_counter()
            answer = browser.get(address)
            times.append((time.perf_counter() - began) * 1000)
        assert answer.status_code == 200, (address, answer.status_code)
    # The first look compiles templates.
    return times[1:], asked.captured_queries


def _pages() -> Iterator[tuple[str, str]]:
    """Names and addresses; ids are those of rows that are there."""
    yield "overview", "/admin/"
    yield from ((f"charts, {span}", f"/admin/charts.json?range={span}") for span in ("1h", "24h", "7d"))
    yield from _jobs()
    yield from _letters()
    for name in ("jobs/queue", "jobs/worker", "jobs/event", "jobs/attempt", "jobs/idempotencykey", "jobs/joblabel",
                 "jobs/effect", "jobs/bulkoperation", "deadletters/replayoperation", "deadletters/replayitem",
                 "monitoring/report", "monitoring/rollup", "api/apitoken", "django_celery_beat/periodictask",
                 "jobs/idempotencykey/?q=order-77", "jobs/idempotencykey/?q=order-nobody-knows",
                 "jobs/joblabel/?q=user_id:usr_7", "jobs/joblabel/?q=tag:vip", "jobs/joblabel/?q=tag:nobody",
                 "jobs/attempt/?outcome=LOST", "deadletters/replayitem/?state=SKIPPED"):  # fmt: skip
        yield name, f"/admin/{name}{'' if '?' in name else '/'}"
    for days in (1, 7, 31):
        since = quote(f"{datetime.now(tz=UTC) - timedelta(days=days):%Y-%m-%d 00:00:00+00:00}")
        yield f"jobs/event, last {days} d", f"/admin/jobs/event/?at__gte={since}"
        yield f"jobs/attempt, last {days} d", f"/admin/jobs/attempt/?ended_at__gte={since}"


def _jobs() -> Iterator[tuple[str, str]]:
    from api.paging import encoded
    from jobs.models import Job

    jobs = "/admin/jobs/job/"
    old = Job.objects.order_by("created_at", "id")
    job = old[5_000]
    yield "jobs", jobs
    filters = ("state__exact=SUCCESS", "state__exact=REVOKED", "state__exact=FAILURE", "state__exact=RETRY",
               "state__exact=PENDING", "queue=low", "task=flaky", "task=send_email&queue=low&state__exact=REVOKED",
               "created=7d", "created=1h&state__exact=SUCCESS")  # fmt: skip
    yield from ((f"jobs, {each}", f"{jobs}?{each}") for each in filters)
    searches = (str(job.pk), str(job.pk)[:13], "0198", "order-77", "order-nobody-knows", "payload.user_id:usr_7",
                "payload.user_id:nobody", "tag:vip", "payload.seeded:77", "payload.seeded:none")  # fmt: skip
    yield from ((f"jobs, search {each}", f"{jobs}?q={each}") for each in searches)
    yield "jobs, last page", f"{jobs}?after={encoded(old[10])}"
    for each in ("", "queue=low", "state__exact=REVOKED", "q=payload.seeded:77", "q=tag:vip"):
        yield f"jobs, {each or 'all'}, the last 5,000", f"{jobs}?{each}&after={encoded(job)}"
    yield "job", f"{jobs}{job.pk}/change/"


def _letters() -> Iterator[tuple[str, str]]:
    from deadletters.models import DeadLetter

    letters = "/admin/deadletters/deadletter/"
    failed = DeadLetter.objects.order_by("pk")[5]
    yield "job that failed", f"/admin/jobs/job/{failed.job_id}/change/"
    yield "dead letters, groups", GROUPS
    yield "dead letters, a group", f"{GROUPS}bench-1/"
    yield "dead letters, list", letters
    yield "dead letters, open of a task", f"{letters}?resolution=OPEN&task=flaky"
    yield "dead letters, search by id", f"{letters}?q={failed.job_id}"
    yield "dead letters, search by label", f"{letters}?q=payload.user_id:usr_7"
    yield "a letter", f"{letters}{failed.pk}/change/"


def _browser() -> Any:
    from django.contrib.auth.models import User
    from django.test import Client

    user, _ = User.objects.get_or_create(username="bench", defaults={"is_staff": True, "is_superuser": True})
    browser = Client(headers={"host": "localhost"})
    browser.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return browser


def seed_beside(labelled: int) -> None:
    from django.db import connection

    from deadletters.models import DeadLetter
    from monitoring.histograms import BUCKETS

    if DeadLetter.objects.filter(fingerprint="bench-1").exists():
        return
    with connection.cursor() as cursor:
        for statement in BESIDE.split(";\n"):
            if statement.strip():
                cursor.execute(statement, {"labelled": labelled, "buckets": BUCKETS})
        cursor.execute("VACUUM ANALYZE")


@contextmanager
def servers(parent: Path) -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(dir=parent, prefix="switchyard-pages-") as name:
        directory = Path(name)
        directory.chmod(0o711)
        postgres = Postgres(directory / "postgres", port=free_port(), settings={"max_wal_size": "8GB"})
        with postgres, Valkey(directory / "valkey", port=free_port(), persistence=False) as valkey:
            urls = {"DATABASE_URL": postgres.url, "REDIS_URL": valkey.url}
            yield {**os.environ, **urls, "SECRET_KEY": "bench", "DEBUG": "0", "LOG_LEVEL": "WARNING"}


def manage(environment: dict[str, str], *arguments: str) -> None:
    subprocess.run([sys.executable, "manage.py", *arguments], cwd=ROOT, env=environment, check=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--here", action="store_true", help="measure on DATABASE_URL, which is seeded already")
    parser.add_argument("--directory", default=tempfile.gettempdir(), help="where PostgreSQL keeps its data")
    return parser.parse_args()


if __name__ == "__main__":
    main()
