"""What is worth telling somebody: the alerts of prometheus/alerts.yml, for installations without Prometheus.

A condition looks at the same metrics and finds subjects: a queue, a worker, or the system itself ("").
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from monitoring.history import History, per

Found = dict[str, str]
MINUTE = 60.0
GROWING_DEPTH, GROWING_BY = 500, 200
# Waiting is what the low queue is for.
TOO_OLD = {"high": 60.0, "low": 3600.0}
TOO_OLD_OTHERWISE = 600.0
SNAPSHOT_SECONDS = 300
NEW_LETTERS = 20
ERROR_RATIO, ENOUGH_ATTEMPTS = 0.25, 20
STARTS, DEATHS = 4, 10
SILENT_SECONDS = 20
TICK_SECONDS = 180
LAG_SECONDS = 30


@dataclass(frozen=True)
class Condition:
    """`holds` seconds it must have been found before anybody is told."""

    name: str
    severity: Literal["page", "ticket"]
    holds: float
    find: Callable[[History], Found]


def queue_growing(history: History) -> Found:
    risen = per(history.change("switchyard_queue_depth", 2 * MINUTE), "queue")
    depths = per(history.now("switchyard_queue_depth"), "queue")
    return {
        queue: f"{depth:,.0f} jobs wait on {queue}, {risen[queue]:,.0f} more than two minutes ago"
        for queue, depth in depths.items()
        if depth > GROWING_DEPTH and risen[queue] > GROWING_BY
    }


def oldest_job_too_old(history: History) -> Found:
    paused = per(history.now("switchyard_queue_paused"), "queue")
    ages = per(history.now("switchyard_queue_oldest_age_seconds"), "queue")
    return {
        queue: f"a job on {queue} has been due for {age:,.0f} s"
        for queue, age in ages.items()
        if age > TOO_OLD.get(queue, TOO_OLD_OTHERWISE) and not paused.get(queue)
    }


def old_snapshot(history: History) -> Found:
    age = history.value("switchyard_postgres_oldest_snapshot_seconds") or 0
    return {"": f"a transaction has been open for {age:,.0f} s; vacuum waits"} if age > SNAPSHOT_SECONDS else {}


def dead_letters_growing(history: History) -> Found:
    new = sum(history.rise("switchyard_jobs_dead_lettered_total", 15 * MINUTE).values())
    return {"": f"{new:,.0f} new dead letters in 15 minutes"} if new > NEW_LETTERS else {}


def errors_frequent(history: History) -> Found:
    ended = per(history.rise("switchyard_attempts_ended_total", 10 * MINUTE), "task")
    retried = per(history.rise("switchyard_attempts_retried_total", 10 * MINUTE), "task")
    failed = per(history.rise("switchyard_jobs_failed_total", 10 * MINUTE), "task")
    return {
        task: f"{retried.get(task, 0) + failed.get(task, 0):,.0f} of the last {number:,.0f} attempts of {task} failed"
        for task, number in ended.items()
        if number >= ENOUGH_ATTEMPTS and retried.get(task, 0) + failed.get(task, 0) > ERROR_RATIO * number
    }


def no_worker_on_queue(history: History) -> Found:
    workers = per(history.now("switchyard_queue_workers"), "queue")
    return {queue: f"no worker serves {queue}" for queue, number in workers.items() if number == 0}


def worker_crash_loop(history: History) -> Found:
    deaths = sum(history.rise("switchyard_attempt_deaths_total", 10 * MINUTE).values())
    found = {"": f"{deaths:,.0f} attempts died in ten minutes"} if deaths > DEATHS else {}
    starts = per(history.now("switchyard_worker_recent_starts"), "worker")
    return found | {
        worker: f"{worker} has started {number:.0f} times in ten minutes"
        for worker, number in starts.items()
        if number > STARTS
    }


def heartbeat_stale(history: History) -> Found:
    ages = per(history.now("switchyard_worker_heartbeat_age_seconds"), "worker")
    return {worker: f"{worker} was last seen {age:,.0f} s ago" for worker, age in ages.items() if age > SILENT_SECONDS}


def beat_not_ticking(history: History) -> Found:
    if not history.value("switchyard_database_up"):
        return {}
    last = history.value("switchyard_beat_last_tick_timestamp_seconds")
    if last is None:
        return {"": "beat has never run an entry of the schedule"}
    age = time.time() - last
    return {"": f"beat last ran an entry {age:,.0f} s ago"} if age > TICK_SECONDS else {}


def dispatcher_lagging(history: History) -> Found:
    lag = history.value("switchyard_dispatcher_lag_seconds") or 0
    sweep = history.value("switchyard_dispatcher_sweep_age_seconds") or 0
    if max(lag, sweep) <= LAG_SECONDS:
        return {}
    return {"": f"a due job has waited {lag:,.0f} s for its ticket; the last sweep was {sweep:,.0f} s ago"}


def database_down(history: History) -> Found:
    return {} if history.value("switchyard_database_up") else {"": "PostgreSQL does not answer"}


def redis_down(history: History) -> Found:
    return {} if history.value("switchyard_redis_up") else {"": "Redis does not answer"}


def target_absent(history: History) -> Found:
    """Only where WATCH_WEB_URL says which address must answer."""
    return {"": "the web process does not answer"} if history.value("switchyard_web_up") == 0 else {}


CONDITIONS = (
    Condition("QueueGrowing", "page", MINUTE, queue_growing),
    Condition("OldestJobTooOld", "page", MINUTE, oldest_job_too_old),
    Condition("OldSnapshot", "ticket", MINUTE, old_snapshot),
    Condition("DeadLettersGrowing", "page", 0, dead_letters_growing),
    Condition("ErrorsFrequent", "ticket", 2 * MINUTE, errors_frequent),
    Condition("NoWorkerOnQueue", "page", MINUTE, no_worker_on_queue),
    Condition("WorkerCrashLoop", "page", 0, worker_crash_loop),
    Condition("HeartbeatStale", "ticket", 30, heartbeat_stale),
    Condition("BeatNotTicking", "page", MINUTE, beat_not_ticking),
    Condition("DispatcherLagging", "page", MINUTE, dispatcher_lagging),
    Condition("DatabaseDown", "page", 30, database_down),
    Condition("RedisDown", "page", 30, redis_down),
    Condition("TargetAbsent", "page", MINUTE, target_absent),
)


def findings(history: History) -> Iterator[tuple[Condition, str, str]]:
    """Condition, subject and text of everything that is wrong at the last look."""
    for condition in CONDITIONS:
        for subject, text in condition.find(history).items():
            yield condition, subject, text
