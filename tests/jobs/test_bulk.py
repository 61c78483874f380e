"""Many jobs at once: the same contract as one at a time."""

import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from uuid import UUID

import pytest
import redis
from django.db import IntegrityError, connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from jobs.bulk import CHUNK, Written, submit_in_chunks, submit_many
from jobs.drafting import Draft, draft
from jobs.errors import InvalidJob, JobExists, KeyReused
from jobs.ids import uuid7
from jobs.models import Event, IdempotencyKey, Job
from jobs.submission import submit

pytestmark = pytest.mark.django_db(transaction=True)


def drafts(count: int, *, keyed: bool = False, failures: int = 0) -> Iterator[Draft]:
    return (draft("flaky", {"failures": failures}, key=f"k{n}" if keyed else None) for n in range(count))


def test_a_thousand_jobs_are_written_and_ticketed_once(broker: redis.Redis) -> None:
    written = submit_many(drafts(1500, keyed=True))
    assert len({each.job_id for each in written}) == Job.objects.count() == IdempotencyKey.objects.count() == 1500
    assert broker.llen("default") == 1500


def test_the_tickets_of_a_large_transaction_are_pushed_part_by_part(broker: redis.Redis) -> None:
    with transaction.atomic():
        submit_many(drafts(2500))
        before = _pushes(broker)
    assert _pushes(broker) - before == 3
    assert broker.llen("default") == 2500


def _pushes(broker: redis.Redis) -> int:
    return broker.info("commandstats").get("cmdstat_lpush", {"calls": 0})["calls"]


def test_a_bulk_row_is_the_row_a_single_submit_would_write(broker: redis.Redis) -> None:
    options = {"tags": ["x"], "callback_url": "https://example.com/", "trace": {"a": 1}, "queue": "low"}
    single = submit("flaky", {"failures": 1}, key="one", **options)
    [many] = submit_many([draft("flaky", {"failures": 1}, key="many", **options)])
    first, second = Job.objects.get(pk=single.pk), Job.objects.get(pk=many.job_id)
    differing = {"id", "created_at", "run_at", "dispatched_at"}
    for field in Job._meta.concrete_fields:
        if field.attname not in differing:
            assert getattr(first, field.attname) == getattr(second, field.attname), field.name
    assert list(first.labels.values_list("label")) == list(second.labels.values_list("label"))
    assert bytes(first.key.fingerprint) == bytes(second.key.fingerprint)


def test_submitting_the_same_keys_again_makes_nothing(broker: redis.Redis) -> None:
    first = submit_many(drafts(50, keyed=True))
    again = submit_many(drafts(60, keyed=True))
    assert [each.job_id for each in again[:50]] == [each.job_id for each in first]
    assert [each.replayed for each in again] == [True] * 50 + [False] * 10
    assert Job.objects.count() == broker.llen("default") == 60


def test_keys_known_further_on_are_answered_and_the_new_ones_before_them_written(broker: redis.Redis) -> None:
    """The first key is new, so all are tried at once; what that had written by then is gone."""
    some = list(drafts(10, keyed=True))
    first = submit_many(some[5:])
    again = submit_many(drafts(10, keyed=True))
    assert [each.replayed for each in again] == [False] * 5 + [True] * 5
    assert [each.job_id for each in again[5:]] == [each.job_id for each in first]
    assert Job.objects.count() == IdempotencyKey.objects.count() == broker.llen("default") == 10


def test_a_known_key_is_answered_whatever_id_comes_with_it(broker: redis.Redis) -> None:
    known = draft("flaky", {"failures": 0}, key="z", job_id=uuid7())
    submit_many([known])
    new, again = submit_many([draft("flaky", {"failures": 0}, key="a"), known])
    assert (new.replayed, again.replayed, again.job_id) == (False, True, known.id)
    assert Job.objects.count() == 2


def test_a_key_twice_in_one_chunk_is_one_job(broker: redis.Redis) -> None:
    one, other = (draft("flaky", {"failures": 0}, key="same") for _ in range(2))
    written = submit_many([one, other])
    assert [each.job_id for each in written] == [one.id, one.id]
    assert Job.objects.count() == 1


def test_a_reused_key_refuses_all_or_only_itself(broker: redis.Redis) -> None:
    submit_many(drafts(1, keyed=True, failures=1))
    with pytest.raises(KeyReused, match="'k0' was already used"):
        submit_many(drafts(5, keyed=True))
    assert Job.objects.count() == 1
    written = submit_many(drafts(5, keyed=True), atomic=False)
    assert [each.error is None for each in written] == [False, True, True, True, True]
    assert Job.objects.count() == 5


def test_an_id_that_exists_refuses_the_chunk_and_leaves_nothing(broker: redis.Redis) -> None:
    taken = submit("flaky", {}).pk
    broker.flushdb()
    with pytest.raises(JobExists, match=str(taken)):
        submit_many([draft("flaky", {}, key="new"), draft("flaky", {}, job_id=taken)])
    assert (Job.objects.count(), IdempotencyKey.objects.count(), broker.llen("default")) == (1, 0, 0)


def test_a_rolled_back_bulk_leaves_no_ticket(broker: redis.Redis) -> None:
    with transaction.atomic():
        submit_many(drafts(10))
        transaction.set_rollback(True)
    assert (Job.objects.count(), broker.llen("default")) == (0, 0)


def test_an_endless_supply_is_written_chunk_by_chunk(broker: redis.Redis) -> None:
    def endless() -> Iterator[Draft]:
        while True:
            yield draft("flaky", {"failures": 0})

    chunks = submit_in_chunks(endless(), size=10)
    assert [len(next(chunks)) for _ in range(3)] == [10, 10, 10]
    chunks.close()
    assert Job.objects.count() == broker.llen("default") == 30


@pytest.mark.parametrize("read_ahead", [False, True])
def test_what_is_handed_out_is_committed(broker: redis.Redis, read_ahead: bool) -> None:
    with ThreadPoolExecutor(1) as elsewhere:
        for number, written in enumerate(submit_in_chunks(drafts(25, keyed=True), size=10, read_ahead=read_ahead)):
            seen = elsewhere.submit(_count_and_close, [each.job_id for each in written]).result()
            assert seen == len(written) == (10, 10, 5)[number]


def _count_and_close(ids: list[UUID]) -> int:
    try:
        return Job.objects.filter(pk__in=ids).count()
    finally:
        connection.close()


@pytest.mark.parametrize("known", [[], [3, 14], range(10, 20), range(25)], ids=["none", "some", "a chunk", "all"])
def test_reading_ahead_makes_the_same_jobs(broker: redis.Redis, known: Sequence[int]) -> None:
    supply = list(drafts(25, keyed=True))
    submit_many([supply[index] for index in known])
    chunks = list(submit_in_chunks(drafts(25, keyed=True), size=10, read_ahead=True))
    written = [each for chunk in chunks for each in chunk]
    assert [each.replayed for each in written] == [index in known for index in range(25)]
    assert [len(chunk) for chunk in chunks] == [10, 10, 5]
    keys = dict(IdempotencyKey.objects.values_list("job_id", "key"))
    assert [keys[each.job_id] for each in written] == [f"k{number}" for number in range(25)]
    assert Job.objects.count() == broker.llen("default") == 25


def test_reading_ahead_in_a_transaction_leaves_nothing_when_it_is_rolled_back(broker: redis.Redis) -> None:
    with transaction.atomic():
        assert len(list(submit_in_chunks(drafts(25, keyed=True), size=10, read_ahead=True))) == 3
        transaction.set_rollback(True)
    assert (Job.objects.count(), IdempotencyKey.objects.count(), broker.llen("default")) == (0, 0, 0)


def test_a_supply_that_is_read_ahead_may_use_the_database_meanwhile(broker: redis.Redis) -> None:
    """It has a cursor open on Django's connection, and writes there as it goes."""
    submit_many(drafts(25))

    def supply() -> Iterator[Draft]:
        for parent in Job.objects.filter(queue="default").order_by("id").iterator(chunk_size=5):
            submit("flaky", {"failures": 1}, queue="low")
            yield draft("flaky", {"failures": 2}, key=str(parent.pk), queue="high")

    chunks = list(submit_in_chunks(supply(), size=10, read_ahead=True))
    assert [len(chunk) for chunk in chunks] == [10, 10, 5]
    assert [broker.llen(queue) for queue in ("high", "default", "low")] == [25, 25, 25]
    assert Job.objects.count() == 75


@pytest.mark.parametrize(
    "submit_all",
    [
        submit_many,
        lambda supply: [None for _ in submit_in_chunks(supply)],
        lambda supply: [None for _ in submit_in_chunks(supply, read_ahead=True)],
    ],
    ids=["submit_many", "in chunks", "read ahead"],
)
def test_no_more_than_two_chunks_are_held(broker: redis.Redis, submit_all: Callable[[Iterator[Draft]], object]) -> None:
    alive: list[int] = []

    def supply() -> Iterator[Draft]:
        for number, each in enumerate(drafts(5000)):
            if number % 250 == 249:
                alive.append(sum(isinstance(one, Draft) for one in gc.get_objects()))
            yield each

    submit_all(supply())
    assert len(alive) == 20 and max(alive) <= 2 * CHUNK
    assert Job.objects.count() == broker.llen("default") == 5000


def test_a_supply_that_fails_beside_keys_of_which_one_is_known_is_heard(broker: redis.Redis) -> None:
    """So many rows that PostgreSQL may have refused the known key by then, or not."""
    submit_many([draft("flaky", {"failures": 0}, key="k1500")])

    def supply() -> Iterator[Draft]:
        yield from drafts(2100, keyed=True)
        draft("flaky", {"failures": "5"})

    handed_out: list[Written] = []
    with pytest.raises(InvalidJob):
        for chunk in submit_in_chunks(supply(), size=1000, read_ahead=True):
            handed_out += chunk
    assert len(handed_out) == 1000 and Job.objects.count() == IdempotencyKey.objects.count() == 1001


def test_a_transaction_that_the_supply_opens_takes_its_jobs_with_it(broker: redis.Redis) -> None:
    def supply() -> Iterator[Draft]:
        yield from drafts(5)
        with transaction.atomic():
            yield from drafts(25)
            transaction.set_rollback(True)

    chunks = submit_in_chunks(supply(), size=10, read_ahead=True)
    assert [len(chunk) for chunk in islice(chunks, 2)] == [10, 10]
    assert broker.llen("default") == 0
    assert [len(chunk) for chunk in chunks] == [10]
    assert (Job.objects.count(), broker.llen("default")) == (0, 0)


def test_a_transaction_opened_between_two_chunks_is_the_second_ones(broker: redis.Redis) -> None:
    chunks = submit_in_chunks(drafts(30, keyed=True), size=10, read_ahead=True)
    next(chunks)
    with transaction.atomic():
        next(chunks)
        transaction.set_rollback(True)
    next(chunks)
    assert list(IdempotencyKey.objects.order_by("key").values_list("key", flat=True)) == sorted(
        f"k{number}" for number in (*range(10), *range(20, 30))
    )
    assert Job.objects.count() == broker.llen("default") == 20


def test_chunks_may_be_asked_for_by_any_thread(broker: redis.Redis) -> None:
    chunks = submit_in_chunks(drafts(30), size=10, read_ahead=True)
    next(chunks)
    with ThreadPoolExecutor(1) as elsewhere:
        assert elsewhere.submit(_next_and_close, chunks).result() == 10
    assert [len(chunk) for chunk in chunks] == [10]
    assert Job.objects.count() == 30


def _next_and_close(chunks: Iterator[list[Written]]) -> int:
    try:
        return len(next(chunks))
    finally:
        connection.close()


def test_reading_ahead_leaves_django_its_connection_and_closes_its_own(
    broker: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[BaseDatabaseWrapper] = []
    really = connections.create_connection
    monkeypatch.setattr(connections, "create_connection", lambda alias: opened.append(really(alias)) or opened[-1])
    usual = connections["default"]
    chunks = submit_in_chunks(drafts(100), size=10, read_ahead=True)
    next(chunks)
    [own] = opened
    assert connections["default"] is usual and own.connection.info.backend_pid != usual.connection.info.backend_pid
    chunks.close()
    assert connections["default"] is usual and own.connection is None
    assert Job.objects.count() == 10
    with pytest.raises(JobExists):
        list(submit_in_chunks([draft("flaky", {}, job_id=Job.objects.first().pk)] * 2, size=1, read_ahead=True))
    assert connections["default"] is usual and opened[-1].connection is None and len(opened) == 2


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (lambda: draft("flaky", {"failures": "5"}), InvalidJob),
        (lambda: Event.objects.create(job_id=uuid7(), verb=None), IntegrityError),
        (lambda: IdempotencyKey.objects.create(key="k", scope="", fingerprint=b"", created_at=None), IntegrityError),
    ],
    ids=["bad draft", "fault of another table", "fault of the same table"],
)
@pytest.mark.parametrize("place", [11, 15], ids=["beside the keys", "beside the rows"])
def test_what_a_supply_raises_while_read_ahead_leaves_what_was_not_handed_out_unwritten(
    broker: redis.Redis, fault: Callable[[], object], error: type[Exception], place: int
) -> None:
    """The keys' COPY, and the rows', tell a conflict of their own from what the supply met."""

    def supply() -> Iterator[Draft]:
        yield from drafts(10 + place, keyed=True)
        fault()

    handed_out: list[Written] = []
    with pytest.raises(error):
        for chunk in submit_in_chunks(supply(), size=10, read_ahead=True):
            handed_out += chunk
    assert len(handed_out) == Job.objects.count() == IdempotencyKey.objects.count() == broker.llen("default") == 10


def test_two_bulks_with_the_same_keys_in_opposite_order_do_not_deadlock(broker: redis.Redis) -> None:
    barrier = threading.Barrier(2)

    def run(backwards: bool) -> set[object]:
        mine = list(drafts(300, keyed=True))
        barrier.wait()
        try:
            return {each.job_id for each in submit_many(reversed(mine) if backwards else mine)}
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(run, (False, True))
    assert first == second
    assert Job.objects.count() == 300
