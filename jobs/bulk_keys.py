"""The keys of many drafts at once: which of them are new, and whose the others are."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, OperationalError, transaction

from api.prepared import on_django
from jobs.copying import Meanwhile, copy_rows
from jobs.drafting import Draft
from jobs.errors import KeyBusy
from jobs.models import IdempotencyKey
from jobs.submission import KEY_TAKEN_OVER, LOCK_NOT_AVAILABLE, patience

COLUMNS = ("job_id", "scope", "key", "fingerprint", "created_at", "expires_at")

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


def win_keys(drafts: list[Draft], now: datetime, meanwhile: Meanwhile) -> set[UUID]:
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
        if meanwhile.has_failed:
            raise
        return {each.id for each in drafts} - _win_some_keys(drafts)
    except OperationalError as error:
        if meanwhile.has_failed:
            raise
        raise _busy_or(error, drafts[0]) from None


def _copy_keys(drafts: list[Draft], now: datetime, meanwhile: Meanwhile) -> None:
    times = str(now), str(now + timedelta(seconds=settings.KEY_TTL_SECONDS))
    rows = [(each.id_text, each.scope, each.key, each.fingerprint, *times) for each in drafts]
    copy_rows("jobs_idempotencykey", COLUMNS, rows, meanwhile)


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


def owners(chunk: Sequence[Draft]) -> dict[tuple[str, str], IdempotencyKey]:
    """The keys' present owners, this chunk's own first ones among them."""
    asked = {(each.scope, each.key) for each in chunk if each.key is not None}
    keys = IdempotencyKey.objects.filter(key__in={key for _, key in asked}, scope__in={scope for scope, _ in asked})
    return {(row.scope, row.key): row for row in keys}
