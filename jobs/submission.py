"""Submitting: a job and its idempotency key, written in the caller's transaction, ticketed on commit."""

import logging
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import IntegrityError, OperationalError, connection, transaction

from api.prepared import on_django
from jobs import doorbell, tickets
from jobs.doorbell import Bell
from jobs.drafting import Draft, draft
from jobs.errors import JobExists, KeyBusy, KeyReused, QueueFull
from jobs.models import IdempotencyKey, Job
from jobs.noting import tell_on_commit
from jobs.policies import policy
from jobs.states import State
from jobs.tickets import Ticket

logger = logging.getLogger("jobs")
KEY_TAKEN_OVER = "key taken over"
LEDGER = "ticket_ledger"
LOCK_NOT_AVAILABLE = "55P03"

_JOB_COLUMNS = """id, task, queue, payload, state, attempt, retries, max_retries, deaths, max_deaths, created_at,
  run_at, expires_at, dispatched_at, dispatch_no, callback_url, tags, schedule, trace"""

_INSERT = f"""
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
due AS MATERIALIZED (
  SELECT coalesce(%(run_at)s::timestamptz, now + make_interval(secs => %(delay)s)) AS run_at, now FROM clock
), {{key}}job AS (
  INSERT INTO jobs_job ({_JOB_COLUMNS})
  SELECT %(id)s::uuid, %(task)s, %(queue)s, %(payload)s::jsonb, 'PENDING', 0, 0, %(max_retries)s, 0, %(max_deaths)s,
         due.now, due.run_at, %(expires_at)s::timestamptz,
         CASE WHEN %(ticketed)s AND due.run_at <= due.now THEN due.now END,
         CASE WHEN %(ticketed)s AND due.run_at <= due.now THEN 1 ELSE 0 END,
         %(callback_url)s, %(tags)s::varchar[], %(schedule)s, %(trace)s::jsonb
    FROM due {{won}}
  {{conflict}}
  RETURNING id, created_at, run_at, dispatched_at
), labelled AS (
  INSERT INTO jobs_joblabel (job_id, label) SELECT job.id, l FROM job, unnest(%(labels)s::text[]) AS l
)
SELECT created_at, run_at, dispatched_at FROM job
"""

# A key is taken over only when it has expired and its job cannot run again by itself.
_WIN_KEY = """won AS (
  INSERT INTO jobs_idempotencykey AS held (job_id, scope, key, fingerprint, created_at, expires_at)
  SELECT %(id)s::uuid, %(scope)s, %(key)s, %(fingerprint)s::bytea, now, now + make_interval(secs => %(ttl)s) FROM clock
  ON CONFLICT (scope, key) DO UPDATE
    SET job_id = EXCLUDED.job_id, fingerprint = EXCLUDED.fingerprint,
        created_at = EXCLUDED.created_at, expires_at = EXCLUDED.expires_at
    WHERE held.expires_at <= EXCLUDED.created_at AND NOT EXISTS (
      SELECT FROM jobs_job AS j WHERE j.id = held.job_id AND j.state NOT IN ('SUCCESS', 'REVOKED'))
  RETURNING job_id
), before AS (
  SELECT job_id FROM jobs_idempotencykey WHERE scope = %(scope)s AND key = %(key)s
), told AS (
  INSERT INTO jobs_event (at, job_id, verb, actor, reason, details)
  SELECT clock_timestamp(), job.id, '{taken_over}', '', '', '{{}}'
    FROM won, before JOIN jobs_job AS job ON job.id = before.job_id
), """

INSERT_JOB = _INSERT.format(key="", won="", conflict="ON CONFLICT (id) DO NOTHING")
INSERT_KEYED_JOB = _INSERT.format(key=_WIN_KEY.format(taken_over=KEY_TAKEN_OVER), won=", won", conflict="")

_LOCK_TIMEOUT = """
WITH before AS MATERIALIZED (SELECT current_setting('lock_timeout') AS lock_timeout)
SELECT lock_timeout, set_config('lock_timeout', %s, true) FROM before
"""


def submit(task: Any, payload: Mapping[str, Any] | None = None, **options: Any) -> Job:
    """Write a job; it can no longer be lost once the caller's transaction commits.

    Options are those of `jobs.drafting.draft`: key, scope, queue, run_at, delay (seconds), expires_at,
    callback_url, tags, job_id. A key that made a job before returns that job, with `replayed` set.
    Raises InvalidJob (and its leaves) for what cannot be stored or run, KeyReused, KeyBusy, QueueFull, JobExists.
    """
    return write(draft(task, payload, **options))


asubmit = sync_to_async(submit)


def write(wanted: Draft) -> Job:
    """Insert one checked draft."""
    refuse_when_full([wanted])
    ticketed = wanted.policy.is_ticketed and tickets.can_publish()
    values = wanted.columns() | {"ticketed": ticketed, "ttl": settings.KEY_TTL_SECONDS}
    if wanted.key is None:
        rows = on_django(INSERT_JOB, values)
        if not rows:
            raise JobExists(wanted.id)
    else:
        rows = _insert_keyed(wanted, values)
        if not rows:
            return existing(wanted)
    [(created_at, run_at, dispatched_at)] = rows
    tell_on_commit(partial(_tell, wanted))
    if dispatched_at is not None:
        publish_on_commit([Ticket(wanted.id, wanted.task, wanted.ticket_queue)])
    elif wanted.bell is not None and run_at <= created_at:
        publish_on_commit([wanted.bell])
    return _as_job(wanted, created_at=created_at, run_at=run_at, dispatched_at=dispatched_at)


def existing(wanted: Draft) -> Job:
    """The job an earlier submit made under the same key; raises KeyReused when its body was another."""
    key = IdempotencyKey.objects.select_related("job").filter(scope=wanted.scope, key=wanted.key).first()
    if key is None:
        raise KeyBusy(str(wanted.key))
    if bytes(key.fingerprint) != wanted.fingerprint:
        raise KeyReused(str(wanted.key), key.job_id)
    key.job.replayed = True
    return key.job


def _tell(wanted: Draft) -> None:
    about = {"job_id": str(wanted.id), "task": wanted.task, "queue": wanted.queue, "state": State.PENDING}
    logger.info("job submitted", extra=about)


def refuse_when_full(drafts: Iterable[Draft]) -> None:
    """Raises QueueFull when the drafts would go over their policy's max_depth."""
    wanted: dict[tuple[str, str], int] = {}
    for each in drafts:
        if each.policy.max_depth:
            wanted[each.task, each.queue] = wanted.get((each.task, each.queue), 0) + 1
    for (task, queue), count in wanted.items():
        limit = policy(task).max_depth
        waiting = Job.objects.unfinished().filter(queue=queue).exclude(state=State.STARTED)
        depth = waiting[:limit].count()
        if depth + count > limit:
            raise QueueFull(queue, depth, limit)


def publish_on_commit(batch: Sequence[Ticket | Bell]) -> None:
    """Have these tickets published, and bells rung, together with the transaction's others, once it has committed."""
    ledger = _ledger()
    hook = _Hook(batch, ledger)
    ledger.hooks.append(weakref.ref(hook))
    transaction.on_commit(hook, robust=True)


class _Ledger:
    """The hooks of one transaction; alive as long as one of them is."""

    def __init__(self) -> None:
        self.hooks: list[weakref.ref[_Hook]] = []


class _Hook:
    """An on-commit hook. Rolling back a savepoint drops its hooks, and with them their tickets.

    Django gives a hook no way to see which others survived, but it keeps the only strong reference
    to each: those still alive when the first one runs are the survivors.
    """

    def __init__(self, batch: Sequence[Ticket | Bell], ledger: _Ledger) -> None:
        self.batch = batch
        self.ledger = ledger
        # Django wants it when it logs that a hook failed, and would fail itself: after the commit, to the caller.
        self.__qualname__ = "publish_on_commit"

    def __call__(self) -> None:
        survivors = [hook for hook in (ref() for ref in self.ledger.hooks) if hook is not None]
        self.ledger.hooks.clear()
        calls = [call for hook in survivors for call in hook.batch]
        issued = [each for each in calls if isinstance(each, Ticket)]
        # The dispatcher rings again for what is due: nothing to note when this fails.
        doorbell.ring(each for each in calls if isinstance(each, Bell))
        if not tickets.publish(issued):
            _give_to_dispatcher([ticket.job for ticket in issued])


def _ledger() -> _Ledger:
    reference = getattr(connection, LEDGER, None)
    ledger = reference() if reference and connection.in_atomic_block else None
    if ledger is None or not ledger.hooks:
        ledger = _Ledger()
        setattr(connection, LEDGER, weakref.ref(ledger))
    return ledger


def _give_to_dispatcher(ids: list[UUID]) -> None:
    Job.objects.filter(id__in=ids, state=State.PENDING, attempt=0).update(dispatched_at=None)


def _insert_keyed(wanted: Draft, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Insert key and job together; no rows when the key is taken. Waits briefly for a first request still open."""
    try:
        if not connection.in_atomic_block:
            return on_django(_alone(INSERT_KEYED_JOB), values)
        with transaction.atomic(), patience():
            return on_django(INSERT_KEYED_JOB, values)
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) == LOCK_NOT_AVAILABLE:
            raise KeyBusy(str(wanted.key)) from None
        raise
    except IntegrityError:
        raise JobExists(wanted.id) from None


def _alone(statement: str) -> str:
    """The statement with a lock time-out of its own: outside a transaction one statement is one transaction."""
    patience = f"set_config('lock_timeout', '{settings.KEY_PATIENCE_MS}', true)"
    return statement.replace("SELECT clock_timestamp() AS now", f"SELECT clock_timestamp() AS now, {patience}", 1)


@contextmanager
def patience() -> Iterator[None]:
    """A lock time-out for the statements inside, put back afterwards; an error's savepoint puts it back too."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCK_TIMEOUT, [str(settings.KEY_PATIENCE_MS)])
        [before, _] = cursor.fetchone()
        yield
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [before])


def _as_job(wanted: Draft, **times: Any) -> Job:
    """The row just written, without reading it back."""
    job = Job(**wanted.fields(), **times, dispatch_no=1 if times["dispatched_at"] else 0)
    job._state.adding, job._state.db = False, connection.alias
    if wanted.key is not None:
        job.key = IdempotencyKey(job=job, scope=wanted.scope, key=wanted.key, fingerprint=wanted.fingerprint)
    job.replayed = False
    return job
