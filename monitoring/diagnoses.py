"""What loses jobs in an installation, one check each; `manage.py doctor` prints them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import redis
from celery import current_app
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from jobs.models import Job, Worker
from jobs.policies import longest_hard_limit
from jobs.tickets import reading_client

Level = Literal["OK", "WARN", "FAIL"]
SNAPSHOT_SECONDS, CLOCK_SECONDS, CONNECTIONS_SHARE = 300, 2, 0.8


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's: what was looked at, how it is, and what to do when it is not well."""

    check: str
    level: Level
    text: str
    advice: str = ""


def examine() -> Iterator[Finding]:
    """Every check in turn; one that cannot reach Redis or PostgreSQL is itself a finding."""
    for check in CHECKS:
        try:
            yield check()
        except redis.RedisError as error:
            yield Finding(_name(check), "FAIL", f"Redis does not answer: {error}", "Start Redis, check REDIS_URL.")


def redis_eviction() -> Finding:
    policy = _redis_config("maxmemory-policy")
    if policy == "noeviction":
        return Finding("redis eviction", "OK", "noeviction")
    return Finding(
        "redis eviction",
        "FAIL",
        f"maxmemory-policy is {policy}",
        "Set maxmemory-policy noeviction: Redis may drop queues.",
    )


def redis_persistence() -> Finding:
    if _redis_config("appendonly") == "yes":
        return Finding("redis persistence", "OK", "append-only file")
    advice = "Set appendonly yes. Nothing is lost without it, but every ticket must be issued again after a restart."
    return Finding("redis persistence", "WARN", "no append-only file", advice)


def visibility_timeout() -> Finding:
    timeout = current_app.conf.broker_transport_options.get("visibility_timeout", 3600)
    longest = longest_hard_limit()
    if timeout > longest:
        return Finding("visibility timeout", "OK", f"{timeout:g} s, longest hard limit {longest:g} s")
    advice = "Make it longer than the longest hard limit, or running jobs get second tickets."
    return Finding("visibility timeout", "FAIL", f"{timeout:g} s, but a job may run {longest:g} s", advice)


def late_ack() -> Finding:
    if current_app.conf.task_acks_late and current_app.conf.task_reject_on_worker_lost:
        return Finding("late ack", "OK", "on")
    return Finding(
        "late ack", "WARN", "off", "Nothing is lost without it, but the second net under the claim is missing."
    )


def queues_known() -> Finding:
    unknown = sorted(set(Job.objects.unfinished().values_list("queue", flat=True)) - set(settings.JOB_QUEUES))
    if not unknown:
        return Finding("queues", "OK", "every waiting job is on a declared queue")
    return Finding(
        "queues", "FAIL", f"jobs wait on {', '.join(unknown)}", "Add the queue to JOB_QUEUES and give it a worker."
    )


def dispatcher_alive() -> Finding:
    return _alive(Worker.Kind.DISPATCHER, "Start `manage.py dispatcher`: retries and lost tickets wait for it.")


def beat_alive() -> Finding:
    holders = Worker.objects.filter(kind=Worker.Kind.BEAT, lease_until__gt=timezone.now()).count()
    if holders > 1:
        return Finding("beat", "FAIL", f"{holders} beats hold the lease", "Stop all but one and look at their clocks.")
    return _alive(Worker.Kind.BEAT, "Start `celery -A config beat -S jobs.ticks:TickScheduler`: schedules stand still.")


def workers_on_queues() -> Finding:
    served = {queue for worker in _living(Worker.Kind.WORKER) for queue in worker.queues}
    missing = [queue for queue in settings.JOB_QUEUES if queue not in served]
    if not missing:
        return Finding("workers", "OK", "every queue has a worker")
    return Finding(
        "workers", "FAIL", f"no worker on {', '.join(missing)}", f"Start `celery -A config worker -Q {missing[0]}`."
    )


def clocks() -> Finding:
    [(theirs,)] = _rows("SELECT clock_timestamp()")
    seconds = abs((datetime.now(UTC) - theirs).total_seconds())
    text = f"{seconds:.1f} s between this machine and PostgreSQL"
    if seconds <= CLOCK_SECONDS:
        return Finding("clocks", "OK", text)
    return Finding("clocks", "WARN", text, "Only PostgreSQL's clock decides, but logs will not line up: run NTP.")


def old_snapshots() -> Finding:
    [(age, pid)] = _rows(
        "SELECT coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0), "
        "(array_agg(pid ORDER BY xact_start))[1] FROM pg_stat_activity "
        "WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    if age < SNAPSHOT_SECONDS:
        return Finding("old snapshot", "OK", f"the oldest transaction is {age:.0f} s old")
    advice = f"Vacuum cannot clean behind it and claims get slower: SELECT pg_terminate_backend({pid})."
    return Finding("old snapshot", "WARN", f"a transaction of pid {pid} is {age:.0f} s old", advice)


def connections() -> Finding:
    [(used, limit)] = _rows(
        "SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), "
        "current_setting('max_connections')::int"
    )
    children = sum(worker.concurrency + 2 for worker in _living(Worker.Kind.WORKER))
    text = f"{used} of {limit} in use; workers may need {children}"
    if max(used, children) < limit * CONNECTIONS_SHARE:
        return Finding("connections", "OK", text)
    return Finding("connections", "WARN", text, "Raise max_connections, shrink the pools, or put pgbouncer in between.")


def migrations() -> Finding:
    executor = MigrationExecutor(connection)
    waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if not waiting:
        return Finding("migrations", "OK", "all applied")
    return Finding("migrations", "FAIL", f"{len(waiting)} not applied", "Run `manage.py migrate`.")


def debug() -> Finding:
    if settings.DEBUG or settings.SECRET_KEY == settings.INSECURE_KEY:
        return Finding(
            "debug", "WARN", "DEBUG is on", "Set DEBUG=0 and a SECRET_KEY of your own before others can reach it."
        )
    return Finding("debug", "OK", "off")


CHECKS: tuple[Callable[[], Finding], ...] = (
    redis_eviction, redis_persistence, visibility_timeout, late_ack, queues_known, dispatcher_alive, beat_alive,
    workers_on_queues, clocks, old_snapshots, connections, migrations, debug,
)  # fmt: skip


def _alive(kind: str, advice: str) -> Finding:
    names = [worker.name for worker in _living(kind)]
    if names:
        return Finding(kind, "OK", ", ".join(names))
    return Finding(kind, "FAIL", f"no {kind} is alive", advice)


def _living(kind: str) -> list[Worker]:
    """Workers whose beat is younger than the lease, by PostgreSQL's clock."""
    [(since,)] = _rows("SELECT clock_timestamp() - make_interval(secs => %s)", [settings.LEASE_SECONDS])
    return list(Worker.objects.filter(kind=kind, state=Worker.State.UP, heartbeat_at__gte=since))


def _redis_config(name: str) -> str:
    found: Any = reading_client().config_get(name)
    return str(found.get(name, "unknown"))


def _rows(statement: str, params: list[Any] | None = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall()


def _name(check: Callable[[], Finding]) -> str:
    return check.__name__.replace("_", " ")
