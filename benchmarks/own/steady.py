"""Submits at a steady rate, asks for the depth every second, and says how long jobs waited."""

import threading
import time
from uuid import uuid4

from django.db import connection

from benchmarks.peers.driving import payload
from benchmarks.sustained import pace
from jobs.submission import submit

TASKS = ("bench_flaky_each", "bench_flaky_batch")
_DEPTH = """
SELECT count(*) FROM jobs_job
 WHERE finished_at IS NULL AND state IN ('PENDING', 'RETRY') AND run_at <= clock_timestamp()
"""
# Every attempt waited: those that failed, and the one that did not.
_WAITS = """
SELECT percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY wait) FROM (
  SELECT extract(epoch FROM started_at - run_at) * 1000 AS wait FROM jobs_job WHERE task = ANY(%(tasks)s)
  UNION ALL
  SELECT extract(epoch FROM started_at - due_at) * 1000 FROM jobs_attempt) AS waited
"""
_COUNTS = """
SELECT count(*), count(finished_at), count(*) FILTER (WHERE retries > 0) FROM jobs_job WHERE task = ANY(%(tasks)s)
"""


def steady(seconds: int) -> None:
    """Print depths; the wait's p50, p95 and p99 in ms; jobs submitted, final and retried."""
    depths: list[int] = []
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(depths, done))
    watcher.start()
    for number in pace(seconds):
        submit(TASKS[number % 2], payload(number // 2), key=str(uuid4()))
    done.set()
    watcher.join()
    _wait_for_the_last()
    [waits] = _one(_WAITS)
    print(" ".join(map(str, depths)), " ".join(map(str, waits)), " ".join(map(str, _one(_COUNTS))), sep=";")


def _watch(depths: list[int], done: threading.Event) -> None:
    while not done.wait(1):
        depths.append(_one(_DEPTH)[0])
    connection.close()


def _wait_for_the_last() -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        submitted, final, _ = _one(_COUNTS)
        if submitted == final:
            return
        time.sleep(0.5)


def _one(statement: str) -> tuple:
    with connection.cursor() as cursor:
        cursor.execute(statement, {"tasks": list(TASKS)})
        return cursor.fetchone()
