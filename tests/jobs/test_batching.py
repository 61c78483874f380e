"""Jobs claimed together: what one answer to a doorbell takes, and that each keeps the guarantees of a job alone."""

import contextvars
import logging
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from api.masking import MASK
from jobs import batch_ends, batching, connections, dispatch, doorbell, querysets, ringing, tickets
from jobs.batch_settlement import release_together, succeed_together
from jobs.bulk import submit_many
from jobs.diagnosis import plain
from jobs.doorbell import Bell
from jobs.drafting import draft
from jobs.logs import JobFields, job_fields, running_job
from jobs.models import Attempt, Batch, Job
from jobs.outcomes import Died, Succeeded
from jobs.pausing import pause, resume
from jobs.processes import this_process
from jobs.querysets import Held
from jobs.redaction import Secrets
from jobs.rescue import Cause, Ended
from jobs.settlement import settle
from jobs.submission import submit
from jobs.tasks.demonstration import flaky, slow
from tests.making import make_job, make_worker
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("at_work", "in_batches")
BELL = Bell("flaky", "default")


@pytest.fixture
def in_batches(tmp_path: Path, settings: Any) -> None:
    """Every task of the demonstration is delivered by batch."""
    text = settings.POLICIES_FILE.read_text().replace('delivery = "each"', 'delivery = "batch"', 1)
    settings.POLICIES_FILE = tmp_path / "policies.toml"
    settings.POLICIES_FILE.write_text(text)
    batching._Memory.pace = batching.Pace()


def many(count: int, failures: int = 0, **options: Any) -> list[Any]:
    """Jobs due one after the other; together they would be due at the same moment."""
    payload = {"failures": failures}
    written = submit_many([draft("flaky", payload, run_at=due(n), **options) for n in range(count)])
    return [each.job_id for each in written]


def due(place: int) -> datetime:
    return timezone.now() - timedelta(seconds=10) + timedelta(milliseconds=place)


def claim(size: int = 20, queue: str = "default") -> tuple[list[Held], bool]:
    return batching.claim_due(Bell("flaky", queue), size, until=0)


def states() -> list[str]:
    return sorted(set(Job.objects.values_list("state", flat=True)))


def test_many_jobs_are_one_message(broker: redis.Redis) -> None:
    with transaction.atomic():
        submit("flaky", {"failures": 0})
        many(50)
        submit("slow", {"seconds": 0})
    submit("flaky", {"failures": 0})
    assert broker.llen("default") == 2
    assert not Job.objects.exclude(dispatched_at=None).exists()


def test_a_submit_that_rolled_back_rings_no_bell(broker: redis.Redis) -> None:
    with transaction.atomic():
        submit("flaky", {"failures": 0})
        transaction.set_rollback(True)
    assert broker.llen("default") == 0


def test_a_job_for_later_is_rung_for_when_it_is_due(broker: redis.Redis) -> None:
    job = make_job(delay=60)
    assert (ringing.ring_due(), broker.llen("default")) == (0, 0)
    Job.objects.filter(pk=job.pk).update(run_at=Now())
    assert [ringing.ring_due() for _ in range(3)] == [1, 1, 1]
    assert broker.llen("default") == 1


def test_what_has_expired_is_revoked_whatever_its_number_and_not_rung_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "BATCH", 2)
    many(5)
    Job.objects.update(expires_at=Now())
    assert ringing.ring_due() == 0
    assert dispatch.expire() == 5
    assert states() == ["REVOKED"]


def test_a_lost_bell_is_rung_again_when_its_memory_is_gone(broker: redis.Redis) -> None:
    many(1)
    broker.delete("default")
    ringing.ring_due()
    assert broker.llen("default") == 0
    assert 0 < broker.ttl("jobs:bell:default:flaky") <= 10
    broker.delete("jobs:bell:default:flaky")
    ringing.ring_due()
    assert broker.llen("default") == 1


def test_a_redis_that_forgot_the_script_is_rung_all_the_same(broker: redis.Redis) -> None:
    assert doorbell.ring([BELL])
    broker.script_flush()
    assert doorbell.ring([Bell("flaky", "low")])
    assert (broker.llen("default"), broker.llen("low")) == (1, 1)


def test_the_dispatcher_issues_no_tickets_for_them(broker: redis.Redis) -> None:
    make_job(run_at=timezone.now() - timedelta(seconds=5))
    broker.flushdb()
    assert dispatch.issue() == 0
    assert broker.llen("default") == 0


def test_one_answer_works_off_everything_that_is_due(broker: redis.Redis) -> None:
    many(300, key=None)
    batching.answer(flaky, "default")
    assert states() == ["SUCCESS"]
    job = Job.objects.first()
    assert (job.attempt, job.result) == (1, {"status": "done", "attempt": 1})
    assert not Attempt.objects.exists()


def test_a_failure_among_them_is_its_own(broker: redis.Redis) -> None:
    good, bad = many(5), many(1, failures=1)
    batching.answer(flaky, "default")
    assert set(Job.objects.filter(pk__in=good).values_list("state", flat=True)) == {"SUCCESS"}
    job = Job.objects.get(pk=bad[0])
    assert (job.state, job.retries, job.attempts.get().error_code) == ("RETRY", 1, "ConnectionError")


def test_a_callback_is_committed_with_its_outcome(broker: redis.Redis) -> None:
    many(2, callback_url="https://example.com/done")
    batching.answer(flaky, "default")
    assert Job.objects.filter(task="deliver_webhook").count() == 2


def test_a_job_that_has_died_is_claimed_alone() -> None:
    ids = many(6)
    Job.objects.filter(pk=ids[3]).update(deaths=1)
    taken = [[job.id for job in claim()[0]] for _ in range(4)]
    assert taken == [ids[:3], [ids[3]], ids[4:], []]


def test_a_job_one_death_short_of_its_last_runs_on_solo(broker: redis.Redis) -> None:
    job, other = many(2)
    Job.objects.filter(pk=job).update(deaths=2)
    broker.flushdb()
    ringing.ring_due()
    assert (broker.llen("solo"), broker.llen("default")) == (1, 1)
    assert [each.id for each in claim()[0]] == [other]
    assert [each.id for each in claim(queue="solo")[0]] == [job]


def test_what_may_not_start_is_not_claimed() -> None:
    early, late, unwanted, running, ticketed, gone = many(6)
    Job.objects.filter(pk=early).update(run_at=timezone.now() + timedelta(seconds=60))
    Job.objects.filter(pk=late).update(expires_at=Now())
    Job.objects.filter(pk=unwanted).update(cancel_requested_at=Now())
    batching_claimed, _ = batching.claim_due(BELL, 1, until=0)
    assert [job.id for job in batching_claimed] == [running]
    Job.objects.filter(pk=ticketed).update(dispatched_at=Now())
    pause("default", actor="t", reason="r")
    assert claim() == ([], False)
    resume("default", actor="t")
    make_worker(state="STOPPING")
    assert claim() == ([], False)
    make_worker()
    assert [job.id for job in claim()[0]] == [gone]


def test_more_is_said_when_more_remain() -> None:
    many(5)
    assert claim(3)[1] is True
    assert claim(3)[1] is False


def test_a_claim_whose_answer_was_lost_is_found_and_not_made_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    many(5)
    own = connections.own()
    send, cut = own.rows, iter([True])

    def send_and_lose_the_answer(statement: str, params: Any) -> Any:
        rows = send(statement, params)
        if statement == querysets.CLAIM_DUE and next(cut, False):
            own._raw.close()
            own._raw.execute("SELECT 1")
        return rows

    monkeypatch.setattr(own, "rows", send_and_lose_the_answer)
    jobs, _ = batching.claim_due(BELL, 20, until=float("inf"))
    assert [job.attempt for job in jobs] == [1] * 5


def test_successes_sent_twice_are_recorded_once_and_are_no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    many(5)
    jobs, _ = claim()
    own = connections.own()
    send, cut = own.rows, iter([True])

    def send_and_lose_the_answer(statement: str, params: Any) -> Any:
        rows = send(statement, params)
        if statement == querysets.SUCCEED_TOGETHER and next(cut, False):
            own._raw.close()
            own._raw.execute("SELECT 1")
        return rows

    monkeypatch.setattr(own, "rows", send_and_lose_the_answer)
    succeed_together([(job, Succeeded(1)) for job in jobs], until=float("inf"))
    assert states() == ["SUCCESS"]
    assert not Attempt.objects.exists()


def test_a_late_process_cannot_settle_what_was_claimed_again() -> None:
    many(3)
    late, _ = claim()
    settle(late[1], Died(plain("X", "gone")))
    Job.objects.filter(pk=late[1].id).update(run_at=Now())
    [again] = claim()[0]
    succeed_together([(job, Succeeded("late")) for job in late], until=0)
    job = Job.objects.get(pk=again.id)
    assert (job.state, job.attempt, job.result) == ("STARTED", 2, None)
    assert Attempt.objects.get(job=job, number=1).fenced_outcome == "SUCCESS"
    assert Job.objects.filter(state="SUCCESS").count() == 2


def test_what_is_given_back_keeps_its_place_and_is_charged_nothing() -> None:
    first, cancelled, _ = many(3)
    jobs, _ = claim()
    before = Job.objects.get(pk=first).run_at
    Job.objects.filter(pk=cancelled).ask_running_to_stop()
    release_together(jobs, "why")
    job = Job.objects.get(pk=first)
    assert (job.state, job.run_at, job.deaths, job.retries) == ("PENDING", before, 0, 0)
    assert job.attempts.get().outcome == "RELEASED"
    assert Job.objects.get(pk=cancelled).state == "REVOKED"
    assert claim()[0][0].id == first


def test_the_end_of_a_process_charges_each_of_its_unsettled_jobs_once() -> None:
    many(4)
    [settled, *_], _ = claim()
    settle(settled, Succeeded(1))
    ended = Ended(settled.id, this_process().pid, Cause.DEATH, "killed", signal=9, was_batch=True)
    for _ in range(2):
        batch_ends.record_end(ended, stopping=False)
    assert Job.objects.filter(state="RETRY", deaths=1).count() == 3
    assert Attempt.objects.filter(outcome="LOST", signal=9).count() == 3


def test_the_end_of_another_process_charges_nobody() -> None:
    many(4)
    claim()
    batch_ends.record_end(Ended(this_id(), 1, Cause.DEATH, "killed", was_batch=True), stopping=False)
    assert states() == ["STARTED"]


def this_id() -> Any:
    return Job.objects.first().pk


def test_while_one_is_slow_the_finished_are_settled_and_the_unbegun_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenario 50."""
    spans = [2.0 if n == 5 else 0 for n in range(20)]
    written = submit_many([draft("slow", {"seconds": span}, run_at=due(n)) for n, span in enumerate(spans)])
    ids, seen = [each.job_id for each in written], {}
    patience = time.monotonic() + 1

    def look(*_: Any) -> None:
        if time.monotonic() > patience and not seen:
            seen.update(dict(Job.objects.values_list("pk", "state")))

    monkeypatch.setattr("jobs.effects.RunningJob.progress", look)
    batching.answer(slow, "default")
    assert [seen[each] for each in ids] == ["SUCCESS"] * 5 + ["STARTED"] + ["PENDING"] * 14
    assert Job.objects.get(pk=ids[5]).state == "SUCCESS"
    batching.answer(slow, "default")
    assert states() == ["SUCCESS"]


def test_an_error_of_the_database_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    many(3)

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such thing")

    monkeypatch.setattr("jobs.handful.succeed_together", broken)
    with pytest.raises(RuntimeError):
        batching.answer(flaky, "default")
    assert states() == ["STARTED"]
    monkeypatch.undo()
    batching.answer(flaky, "default")
    assert states() == ["SUCCESS"]
    assert not Attempt.objects.exists(), "what was finished is recorded, and neither run again nor charged"


def test_how_many_are_claimed_follows_how_long_one_takes() -> None:
    pace = batching.Pace()
    assert pace.size("x") == batching.FIRST_SIZE
    for _ in range(20):
        pace.learn("x", 0.000_01)
    assert pace.size("x") == batching.LARGEST_SIZE
    for _ in range(20):
        pace.learn("x", 3.0)
    assert pace.size("x") == 1


def test_a_process_has_one_row_however_often_it_claims() -> None:
    many(30)
    claim(10)
    claim(10)
    assert Batch.objects.count() == 1
    assert len(batch_ends.held_by_children()) == 10


def test_redis_away_costs_the_caller_little_and_the_dispatcher_rings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets._publisher(), "_quiet_until", float("inf"))
    many(3)
    assert doorbell.ring([BELL]) is False
    batching.answer(flaky, "default")
    assert states() == ["SUCCESS"]


def test_a_thread_of_a_body_hides_its_secrets_while_another_thread_tells_of_other_jobs() -> None:
    record = logging.LogRecord("library", logging.INFO, __file__, 1, "paid with %s", ("4111-1111",), None)

    def thread_of_the_body() -> None:
        assert JobFields().filter(record)

    with running_job(secrets=Secrets({"card": "4111-1111"}, ["card"]), job_id="the job"):
        relief = contextvars.Context()
        told = relief.run(job_fields, job_id="another")
        relief.run(told.__enter__)
        threading.Thread(target=thread_of_the_body).start()
        eventually(lambda: hasattr(record, "job_id"), within=5)
        relief.run(told.__exit__, None, None, None)
    assert (record.getMessage(), record.job_id) == (f"paid with {MASK}", "the job")  # type: ignore[attr-defined]
