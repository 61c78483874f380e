"""Submitting many jobs at once: keys and rows by COPY, tickets in one pipeline."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from functools import partial
from itertools import compress, islice
from operator import attrgetter
from typing import NamedTuple
from uuid import UUID

from django.db import IntegrityError, connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from api.prepared import on_django
from jobs import tickets
from jobs.bulk_keys import owners, win_keys
from jobs.copying import Meanwhile, Row, copy_rows
from jobs.doorbell import Bell
from jobs.drafting import Draft
from jobs.errors import JobExists, KeyBusy, KeyReused
from jobs.models import IdempotencyKey
from jobs.noting import tell_on_commit
from jobs.states import State
from jobs.submission import publish_on_commit, refuse_when_full
from jobs.tickets import Ticket

logger = logging.getLogger("jobs")
CHUNK = 1000
COLUMNS = (
    "id", "task", "queue", "payload", "state", "attempt", "retries", "max_retries", "deaths", "max_deaths",
    "created_at", "run_at", "expires_at", "dispatched_at", "dispatch_no", "callback_url", "tags", "schedule", "trace",
)  # fmt: skip
DISPATCH_NO = COLUMNS.index("dispatch_no")
BY_KEY = attrgetter("scope", "key")


class Written(NamedTuple):
    """What became of one draft: a new job, an earlier one under the same key, or a refusal."""

    job_id: UUID
    replayed: bool = False
    error: KeyReused | None = None


def submit_many(wanted: Iterable[Draft], *, atomic: bool = True) -> list[Written]:
    """Write many drafts, in order. With `atomic` a key used for another body refuses all of them (KeyReused).

    Otherwise each such draft is answered for itself. Raises QueueFull, KeyBusy and JobExists with nothing written.
    Of an iterator two chunks at most are held at a time, of every job an answer and, until the commit, a ticket.
    """
    with transaction.atomic():
        written = [each for part in submit_in_chunks(wanted) for each in part]
        if atomic:
            for each in written:
                if each.error is not None:
                    raise each.error
        return written


def submit_in_chunks(
    wanted: Iterable[Draft], *, size: int = CHUNK, read_ahead: bool = False
) -> Iterator[list[Written]]:
    """Write an endless supply of drafts in constant memory; each chunk commits by itself unless the caller has a
    transaction open, and is then handed out.

    `read_ahead` takes the next chunk from `wanted` while PostgreSQL writes this one, on a connection of its own while
    no transaction is open on Django's. It is for a supply that does not wait, since this chunk waits with it: not
    for time, and not for locks on the jobs and keys of what it has yielded last, which are held meanwhile. After an
    error, of the supply too, what was read and not handed out is unwritten: two chunks at most, instead of one.
    """
    source = iter(wanted)
    chunk = list(islice(source, size))
    with closing(connections.create_connection("default")) as our_own:
        our_own.inc_thread_sharing()
        while chunk:
            ahead: list[Draft] = []
            # Asked for every chunk: between two, the supply or the caller may open a transaction, or end it.
            if read_ahead and connection.get_autocommit():
                read_on = partial(_read_on, source, ahead, connections["default"])
                with _django_using(our_own), transaction.atomic():
                    written = _write_chunk(chunk, read_on)
            else:
                with transaction.atomic():
                    written = _write_chunk(chunk)
            yield written
            chunk = ahead + list(islice(source, size - len(ahead)))


def _read_on(source: Iterator[Draft], ahead: list[Draft], usual: BaseDatabaseWrapper, upto: int) -> None:
    """On Django's usual connection, which the source may use at any time, or have a cursor open on."""
    with _django_using(usual):
        ahead.extend(islice(source, max(0, upto - len(ahead))))


@contextmanager
def _django_using(this: BaseDatabaseWrapper) -> Iterator[None]:
    usual = connections["default"]
    try:
        connections["default"] = this
        yield
    finally:
        connections["default"] = usual


def _write_chunk(chunk: Sequence[Draft], read_on: Callable[[int], None] = lambda upto: None) -> list[Written]:
    """While PostgreSQL takes in the keys, rows are made ready; while it takes in the rows, their tickets.

    In the first case there is time for about a quarter of the next chunk, in the second for all of it.
    """
    refuse_when_full(chunk)
    now, rows = _clock(), list[Row]()
    firsts = _first_of_each_key(chunk)
    meanwhile = Meanwhile(lambda: rows.extend(_rows(chunk, now)), lambda: read_on(len(chunk) // 4))
    lost = win_keys(sorted(firsts.values(), key=BY_KEY), now, meanwhile)
    rows = rows or list(_rows(chunk, now))
    if not lost and len(firsts) == sum(each.key is not None for each in chunk):
        _copy(chunk, rows, now, read_on)
        return [Written(each.id) for each in chunk]
    is_new = [each.key is None or (firsts[each.scope, each.key] is each and each.id not in lost) for each in chunk]
    _copy(list(compress(chunk, is_new)), list(compress(rows, is_new)), now, read_on)
    known = owners(chunk)
    return [Written(each.id) if new else _replay(each, known) for each, new in zip(chunk, is_new, strict=True)]


def _first_of_each_key(chunk: Sequence[Draft]) -> dict[tuple[str, str], Draft]:
    firsts: dict[tuple[str, str], Draft] = {}
    for each in chunk:
        if each.key is not None:
            firsts.setdefault((each.scope, each.key), each)
    return firsts


def _copy(drafts: Sequence[Draft], rows: Sequence[Row], now: datetime, read_on: Callable[[int], None]) -> None:
    """Rows and labels by COPY; a ticket each for those that are due."""
    if not drafts:
        return
    out: list[Ticket | Bell] = []
    meanwhile = Meanwhile(lambda: out.extend(_tickets(drafts, rows)), lambda: read_on(len(drafts)))
    try:
        copy_rows("jobs_job", COLUMNS, rows, meanwhile)
    except IntegrityError as error:
        if meanwhile.has_failed:
            raise
        raise JobExists(str(error.__cause__).partition("DETAIL:")[2].strip()) from None
    labels = [(each.id, label) for each in drafts for label in each.labels()]
    if labels:
        copy_rows("jobs_joblabel", ("job_id", "label"), labels)
    tell_on_commit(partial(_tell, len(drafts), drafts[0].id, drafts[-1].id))
    out += {each.bell for each in drafts if each.bell is not None and _is_due(each, now)}
    if out:
        publish_on_commit(out)


def _tickets(drafts: Sequence[Draft], rows: Sequence[Row]) -> Iterator[Ticket]:
    for each, row in zip(drafts, rows, strict=True):
        if row[DISPATCH_NO]:
            queue = each.ticket_queue
            yield Ticket(each.id, each.task, queue, tickets.first_text(each.id_text, each.task, queue))


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
        wanted.id_text, wanted.task, wanted.queue, wanted.payload_text, "PENDING", 0, 0, wanted.policy.max_retries, 0,
        wanted.policy.max_deaths, moment, run_at, wanted.expires_at, moment if ticketed else None, int(ticketed),
        wanted.callback_url, list(wanted.tags) or "{}", wanted.schedule, trace,
    )  # fmt: skip


def _clock() -> datetime:
    [(now,)] = on_django("SELECT clock_timestamp()", {})
    return now


def _replay(wanted: Draft, known: dict[tuple[str, str], IdempotencyKey]) -> Written:
    row = known.get((wanted.scope, str(wanted.key)))
    if row is None:
        raise KeyBusy(str(wanted.key))
    same = bytes(row.fingerprint) == wanted.fingerprint
    return Written(row.job_id, replayed=same, error=None if same else KeyReused(str(wanted.key), row.job_id))
