"""Submitting many jobs at once: keys in one statement, rows by COPY, tickets in one pipeline."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import compress, islice
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, OperationalError, connection, transaction

from api.prepared import on_django
from jobs import tickets
from jobs.doorbell import Bell
from jobs.drafting import Draft
from jobs.errors import JobExists, KeyBusy, KeyReused
from jobs.models import IdempotencyKey
from jobs.noting import tell_on_commit
from jobs.states import State
from jobs.submission import KEY_TAKEN_OVER, LOCK_NOT_AVAILABLE, patience, publish_on_commit, refuse_when_full
from jobs.tickets import Ticket

logger = logging.getLogger("jobs")
CHUNK = 1000
COLUMNS = (
    "id", "task", "queue", "payload", "state", "attempt", "retries", "max_retries", "deaths", "max_deaths",
    "created_at", "run_at", "expires_at", "dispatched_at", "dispatch_no", "callback_url", "tags", "schedule", "trace",
)  # fmt: skip

DISPATCH_NO = COLUMNS.index("dispatch_no")
KEY_COLUMNS = ("job_id", "scope", "key", "fingerprint", "created_at", "expires_at")

# The same rule as for one key (jobs.submission), for a sorted list of them.
_WIN_KEYS = f"""
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
wanted AS MATERIALIZED (
  SELECT * FROM unnest(%(ids)s::uuid[], %(scopes)s::text[], %(keys)s::text[], %(fingerprints)s::bytea[])
           AS w(job_id, scope, key, fingerprint)
), won AS (
  INSERT INTO jobs_idempotencykey AS held (job_id, scope, key, fingerprint, created_at, expires_at)
  SELECT job_id, scope, key, fingerprint, now, now + make_interval(secs => %(ttl)s) FROM wanted, clock
  ON CONFLICT (scope, key) DO UPDATE
    SET job_id = EXCLUDED.job_id, fingerprint = EXCLUDED.fingerprint,
        created_at = EXCLUDED.created_at, expires_at = EXCLUDED.expires_at
    WHERE held.expires_at <= EXCLUDED.created_at AND NOT EXISTS (
      SELECT FROM jobs_job AS j WHERE j.id = held.job_id AND j.state NOT IN ('SUCCESS', 'REVOKED'))
  RETURNING job_id, scope, key
), told AS (
  INSERT INTO jobs_event (at, job_id, verb, actor, reason, details)
  SELECT clock_timestamp(), job.id, '{KEY_TAKEN_OVER}', '', '', '{{}}'
    FROM won JOIN jobs_idempotencykey AS before USING (scope, key) JOIN jobs_job AS job ON job.id = before.job_id
)
SELECT job_id FROM won
"""


Row = tuple[Any, ...]
BY_KEY = attrgetter("scope", "key")


class Written(NamedTuple):
    """What became of one draft: a new job, an earlier one under the same key, or a refusal."""

    job_id: UUID
    replayed: bool = False
    error: KeyReused | None = None


def submit_many(wanted: Iterable[Draft], *, atomic: bool = True) -> list[Written]:
    """Write many drafts, in order. With `atomic` a key used for another body refuses all of them (KeyReused).

    Otherwise each such draft is answered for itself. Raises QueueFull, KeyBusy and JobExists with nothing written.
    """
    with transaction.atomic():
        written = [each for part in submit_in_chunks(wanted) for each in part]
        if atomic:
            for each in written:
                if each.error is not None:
                    raise each.error
        return written


def submit_in_chunks(wanted: Iterable[Draft], *, size: int = CHUNK) -> Iterator[list[Written]]:
    """Write an endless supply of drafts in constant memory; each chunk commits by itself unless the caller has a
    transaction open."""
    source = iter(wanted)
    while chunk := list(islice(source, size)):
        with transaction.atomic():
            yield _write_chunk(chunk)


def _write_chunk(chunk: Sequence[Draft]) -> list[Written]:
    """While PostgreSQL takes in the keys, rows are made ready; while it takes in the rows, their tickets."""
    refuse_when_full(chunk)
    now, rows = _clock(), list[Row]()
    firsts = _first_of_each_key(chunk)
    lost = _win_keys(sorted(firsts.values(), key=BY_KEY), now, lambda: rows.extend(_rows(chunk, now)))
    rows = rows or list(_rows(chunk, now))
    if not lost and len(firsts) == sum(each.key is not None for each in chunk):
        _copy(chunk, rows, now)
        return [Written(each.id) for each in chunk]
    is_new = [each.key is None or (firsts[each.scope, each.key] is each and each.id not in lost) for each in chunk]
    _copy(list(compress(chunk, is_new)), list(compress(rows, is_new)), now)
    known = _earlier_jobs(chunk)
    return [Written(each.id) if new else _replay(each, known) for each, new in zip(chunk, is_new, strict=True)]


def _first_of_each_key(chunk: Sequence[Draft]) -> dict[tuple[str, str], Draft]:
    firsts: dict[tuple[str, str], Draft] = {}
    for each in chunk:
        if each.key is not None:
            firsts.setdefault((each.scope, each.key), each)
    return firsts


def _win_keys(drafts: list[Draft], now: datetime, meanwhile: Callable[[], None]) -> set[UUID]:
    """Write the keys; the ids of those drafts whose key another job has.

    Sorted, so that two chunks with the same keys wait for each other instead of deadlocking. By COPY,
    which takes a third of the time, as long as every key is new.
    """
    if not drafts:
        return set()
    try:
        with transaction.atomic(), patience():
            _copy_keys(drafts, now, meanwhile)
            return set()
    except IntegrityError:
        return {each.id for each in drafts} - _win_some_keys(drafts)
    except OperationalError as error:
        raise _busy_or(error, drafts[0]) from None


def _copy_keys(drafts: list[Draft], now: datetime, meanwhile: Callable[[], None]) -> None:
    times = str(now), str(now + timedelta(seconds=settings.KEY_TTL_SECONDS))
    rows = [(each.id.hex, each.scope, each.key, each.fingerprint, *times) for each in drafts]
    _copy_rows("jobs_idempotencykey", KEY_COLUMNS, rows, meanwhile)


def _win_some_keys(drafts: list[Draft]) -> set[UUID]:
    values = {
        "ids": [each.id for each in drafts],
        "scopes": [each.scope for each in drafts],
        "keys": [each.key for each in drafts],
        "fingerprints": [each.fingerprint for each in drafts],
        "ttl": settings.KEY_TTL_SECONDS,
    }
    try:
        with transaction.atomic(), patience():
            return {row[0] for row in on_django(_WIN_KEYS, values)}
    except OperationalError as error:
        raise _busy_or(error, drafts[0]) from None


def _busy_or(error: OperationalError, first: Draft) -> Exception:
    """What a caller learns when waiting for another transaction's keys took too long, or something else failed."""
    busy = getattr(error.__cause__, "sqlstate", None) == LOCK_NOT_AVAILABLE
    return KeyBusy(str(first.key)) if busy else error


def _copy(drafts: Sequence[Draft], rows: Sequence[Row], now: datetime) -> None:
    """Rows and labels by COPY; a ticket each for those that are due."""
    if not drafts:
        return
    out: list[Ticket | Bell] = []
    try:
        with transaction.atomic():
            _copy_rows("jobs_job", COLUMNS, rows, lambda: out.extend(_tickets(drafts, rows)))
            labels = [(each.id, label) for each in drafts for label in each.labels()]
            if labels:
                _copy_rows("jobs_joblabel", ("job_id", "label"), labels)
    except IntegrityError as error:
        raise JobExists(str(error.__cause__).partition("DETAIL:")[2].strip()) from None
    tell_on_commit(partial(_tell, len(drafts), drafts[0].id, drafts[-1].id))
    out += {each.bell for each in drafts if each.bell is not None and _is_due(each, now)}
    if out:
        publish_on_commit(out)


def _tickets(drafts: Sequence[Draft], rows: Sequence[Row]) -> Iterator[Ticket]:
    for each, row in zip(drafts, rows, strict=True):
        if row[DISPATCH_NO]:
            queue = each.ticket_queue
            yield Ticket(each.id, each.task, queue, tickets.text(each.id, each.task, queue))


def _tell(count: int, first: UUID, last: UUID) -> None:
    about = {"jobs": count, "first": str(first), "last": str(last), "state": State.PENDING}
    logger.info("jobs submitted", extra=about)


def _rows(drafts: Sequence[Draft], now: datetime) -> Iterator[Row]:
    moment, can_publish = str(now), tickets.can_publish()
    for each in drafts:
        yield _row(now, moment, each, can_publish and each.policy.is_ticketed and _is_due(each, now))


def _is_due(wanted: Draft, now: datetime) -> bool:
    return not wanted.delay and (wanted.run_at is None or wanted.run_at <= now)


def _row(now: datetime, moment: str, wanted: Draft, ticketed: bool) -> Row:
    """As text where psycopg would take longer to make it of each value than all the rest takes; `moment` is `now`."""
    run_at = wanted.run_at or (now + timedelta(seconds=wanted.delay) if wanted.delay else moment)
    trace = json.dumps(wanted.trace) if wanted.trace is not None else None
    return (
        wanted.id.hex, wanted.task, wanted.queue, wanted.payload_text, "PENDING", 0, 0, wanted.policy.max_retries, 0,
        wanted.policy.max_deaths, moment, run_at, wanted.expires_at, moment if ticketed else None, int(ticketed),
        wanted.callback_url, list(wanted.tags) or "{}", wanted.schedule, trace,
    )  # fmt: skip


def _copy_rows(
    table: str, columns: Sequence[str], rows: Iterable[Row], meanwhile: Callable[[], None] = lambda: None
) -> None:
    """Send the rows, then do something else until PostgreSQL has taken them in."""
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
    with connection.wrap_database_errors, connection.connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
        meanwhile()


def _clock() -> datetime:
    [(now,)] = on_django("SELECT clock_timestamp()", {})
    return now


def _earlier_jobs(chunk: Sequence[Draft]) -> dict[tuple[str, str], IdempotencyKey]:
    """The keys' present owners, this chunk's own first ones among them."""
    asked = {(each.scope, each.key) for each in chunk if each.key is not None}
    keys = IdempotencyKey.objects.filter(key__in={key for _, key in asked}, scope__in={scope for scope, _ in asked})
    return {(row.scope, row.key): row for row in keys}


def _replay(wanted: Draft, known: dict[tuple[str, str], IdempotencyKey]) -> Written:
    row = known.get((wanted.scope, str(wanted.key)))
    if row is None:
        raise KeyBusy(str(wanted.key))
    same = bytes(row.fingerprint) == wanted.fingerprint
    return Written(row.job_id, replayed=same, error=None if same else KeyReused(str(wanted.key), row.job_id))
