"""Many jobs at once: the same contract as one at a time."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from django.db import connection, transaction

from jobs.bulk import submit_in_chunks, submit_many
from jobs.drafting import Draft, draft
from jobs.errors import JobExists, KeyReused
from jobs.ids import uuid7
from jobs.models import IdempotencyKey, Job
from jobs.submission import submit

pytestmark = pytest.mark.django_db(transaction=True)


def drafts(count: int, *, keyed: bool = False, failures: int = 0) -> Iterator[Draft]:
    return (draft("flaky", {"failures": failures}, key=f"k{n}" if keyed else None) for n in range(count))


def test_a_thousand_jobs_are_written_and_ticketed_once(broker: redis.Redis) -> None:
    written = submit_many(drafts(1500, keyed=True))
    assert len({each.job_id for each in written}) == Job.objects.count() == IdempotencyKey.objects.count() == 1500
    assert broker.llen("default") == 1500


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
    assert Job.objects.count() >= 20


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
