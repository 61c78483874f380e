"""A PostgreSQL and a Redis that tests may stop, freeze and empty, and the processes that work on them."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from uuid import UUID

import redis
from django.conf import settings
from django.core.management import call_command
from django.db import connection

from config.env import database
from jobs import connections, tickets
from jobs.bulk import submit_many
from jobs.drafting import draft
from jobs.models import Event, Job
from local.postgres import Postgres
from local.valkey import Valkey
from tests.fleet import Fleet
from tests.waiting import eventually

# Every move into SUCCESS leaves a row: the only way to see that there was more than one.
AUDIT = """
CREATE TABLE IF NOT EXISTS chaos_success (job uuid NOT NULL);
CREATE OR REPLACE FUNCTION chaos_note_success() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO chaos_success VALUES (NEW.id); RETURN NULL; END $$;
CREATE OR REPLACE TRIGGER chaos_note_success AFTER UPDATE OF state ON jobs_job
  FOR EACH ROW WHEN (NEW.state = 'SUCCESS') EXECUTE FUNCTION chaos_note_success();
"""
# One row per broken invariant of a job: its id and the rule it breaks.
BROKEN = """
SELECT job.id, rule FROM jobs_job AS job
  CROSS JOIN LATERAL (SELECT count(*) AS rows, count(*) FILTER (WHERE outcome = 'RETRY') AS retries,
                             count(*) FILTER (WHERE outcome = 'LOST') AS deaths
                        FROM jobs_attempt AS a WHERE a.job_id = job.id) AS ended
  CROSS JOIN LATERAL (VALUES
    ('I1: it is final', job.finished_at IS NOT NULL),
    ('I2: it succeeded at most once', (SELECT count(*) FROM chaos_success AS s WHERE s.job = job.id) <= 1),
    ('I4: every attempt is accounted for', job.attempt = ended.rows + (job.state = 'SUCCESS')::int),
    ('I4: retries are counted', job.retries = ended.retries),
    ('I4: deaths are counted', job.deaths = ended.deaths),
    ('I8: a FAILURE has its letter', job.state <> 'FAILURE' OR EXISTS (
      SELECT FROM deadletters_deadletter AS letter WHERE letter.job_id = job.id))
  ) AS rules(rule, holds)
 WHERE job.id = ANY(%s) AND NOT holds
"""


class Site:
    """The servers, the fleet, and what tests ask about their jobs."""

    def __init__(self, postgres: Postgres, valkey: Valkey, fleet: Fleet) -> None:
        self.postgres = postgres
        self.valkey = valkey
        self.fleet = fleet
        self.redis = redis.Redis.from_url(valkey.url, socket_timeout=10)

    @contextmanager
    def no_postgres(self) -> Iterator[None]:
        """PostgreSQL is gone, as in a crash, until the block ends."""
        forget_connections()
        self.postgres.stop("immediate")
        try:
            yield
        finally:
            self.postgres.start()

    @contextmanager
    def no_redis(self, *, crash: bool = False) -> Iterator[None]:
        """Redis is gone until the block ends."""
        if crash:
            self.valkey.kill()
        else:
            self.valkey.stop()
        try:
            yield
        finally:
            self.valkey.start()

    def waiting(self, queue: str = "default") -> int:
        return int(self.redis.llen(queue))  # type: ignore[arg-type]


def forget_connections() -> None:
    """Let go of connections of this process that are about to break, or have."""
    connections.close_own()
    connection.close()


@contextmanager
def pointed_at(postgres: Postgres, valkey: Valkey) -> Iterator[None]:
    """This process, and the processes it starts meanwhile, work on these servers."""
    places, before, redis_url = connection.settings_dict, dict(connection.settings_dict), settings.REDIS_URL
    _forget()
    places.update(database(postgres.url) | {"CONN_MAX_AGE": 0})
    settings.REDIS_URL = valkey.url
    try:
        yield
    finally:
        _forget()
        places.update(before)
        settings.REDIS_URL = redis_url


def prepare() -> None:
    """The tables, and the trigger that counts successes."""
    call_command("migrate", interactive=False, verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute(AUDIT)


def many(count: int, task: str = "flaky", payload: dict[str, object] | None = None, **options: object) -> list[Job]:
    """Submit `count` jobs in one transaction."""
    given = {"failures": 0} if payload is None and task == "flaky" else payload
    written = submit_many([draft(task, given, **options) for _ in range(count)])  # type: ignore[arg-type]
    return reread(each.job_id for each in written)


def reread(jobs: Iterable[Job | UUID]) -> list[Job]:
    """The jobs as their rows are now, oldest first."""
    ids = [job.pk if isinstance(job, Job) else job for job in jobs]
    return list(Job.objects.filter(pk__in=ids).order_by("created_at", "id"))


def in_state(state: str, jobs: Iterable[Job]) -> int:
    return Job.objects.filter(pk__in=[job.pk for job in jobs], state=state).count()


def started(jobs: list[Job], *, within: float = 30) -> list[Job]:
    """Wait until all of them run."""
    eventually(lambda: in_state("STARTED", jobs) == len(jobs), within=within, what="all jobs to start")
    return reread(jobs)


def finished(jobs: list[Job], *, within: float) -> list[Job]:
    """Wait until all of them are final, then ask whether the invariants hold."""
    ids = [job.pk for job in jobs]
    unfinished = Job.objects.unfinished().filter(pk__in=ids)
    eventually(lambda: not unfinished.exists(), within=within, what="all jobs to finish")
    assert broken(ids) == []
    return reread(jobs)


def broken(ids: list[UUID]) -> list[tuple[UUID, str]]:
    with connection.cursor() as cursor:
        cursor.execute(BROKEN, [ids])
        return cursor.fetchall()


def summary(jobs: Iterable[Job]) -> set[tuple[str, int]]:
    """The different (state, attempt) there are."""
    return {(job.state, job.attempt) for job in jobs}


def republished(jobs: Iterable[Job]) -> set[UUID]:
    """Whose tickets were issued again because they were lost."""
    ids = [job.pk for job in jobs]
    events = Event.objects.filter(job_id__in=ids, verb="ticket republished").values_list("job_id", flat=True)
    assert len(set(events)) == len(events), "a ticket was issued again twice"
    return set(events)


def seconds(since: float) -> float:
    return time.monotonic() - since


def _forget() -> None:
    forget_connections()
    tickets._publisher.cache_clear()
    tickets.reading_client.cache_clear()
