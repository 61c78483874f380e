import pytest

from deadletters.drop import drop, drop_all
from deadletters.models import DeadLetter
from deadletters.purge import purge
from deadletters.replay import replay
from jobs import registry
from jobs.errors import Conflict
from jobs.execution import execute
from jobs.models import Attempt, Event, IdempotencyKey, Job
from tests.deadletters.making import exhaust, make_letter
from tests.making import make_job


def test_a_dropped_letter_is_closed_and_its_job_stays_a_failure() -> None:
    letter = make_letter()
    drop(letter, actor="mira", reason="customer gone")
    letter.refresh_from_db()
    assert (letter.resolution, letter.resolved_by, letter.resolved_reason) == ("DROPPED", "mira", "customer gone")
    assert Job.objects.get().state == "FAILURE"
    assert Event.objects.get(job=letter.job_id).verb == "dropped"


def test_a_letter_is_dropped_once() -> None:
    letter = make_letter()
    drop(letter, actor="mira", reason="x")
    with pytest.raises(Conflict, match="was dropped already by mira"):
        drop(letter, actor="omar", reason="y")
    assert Event.objects.count() == 1


def test_dropping_many_leaves_the_resolved_alone_and_says_so() -> None:
    first, second = make_letter(), make_letter()
    drop(first, actor="omar", reason="x")
    tally = drop_all([first, second], actor="mira", reason="y")
    assert tally.done == [second.pk]
    assert list(tally.skipped) == [first.pk]


def test_purge_deletes_a_dropped_letter_with_its_job_key_and_history() -> None:
    letter = make_letter(key="k")
    drop(letter, actor="mira", reason="x")
    purged = purge([letter], actor="mira")
    assert (purged.done, purged.skipped, purged.jobs) == ([letter.pk], {}, 1)
    for model in (DeadLetter, Job, Attempt, IdempotencyKey):
        assert not model._default_manager.exists()


def test_purge_leaves_open_letters_alone() -> None:
    letter = make_letter()
    purged = purge([letter], actor="mira")
    assert purged.done == []
    assert purged.skipped == {letter.pk: f"Dead letter {letter.pk}: it is open: replay or drop it first."}
    assert DeadLetter.objects.open().count() == Job.objects.count() == 1
    assert not Event.objects.exists()


def test_purge_keeps_a_job_that_was_replayed_and_waits() -> None:
    letter = make_letter()
    replay(letter, actor="mira", reason="x")
    assert purge([letter], actor="mira").jobs == 0
    assert not DeadLetter.objects.exists()
    assert Job.objects.get().state == "PENDING"


def test_purge_keeps_a_job_that_was_replayed_and_succeeded() -> None:
    letter = exhaust(make_job("flaky", {"failures": 1}))
    replay(letter, actor="mira", reason="x", payload={"failures": 0})
    execute(registry.find("flaky"), letter.job_id)
    assert purge([letter], actor="mira").jobs == 0
    assert Job.objects.get().state == "SUCCESS"


def test_purge_keeps_a_job_with_a_second_letter_that_is_open() -> None:
    first = make_letter()
    replay(first, actor="mira", reason="x")
    second = exhaust(Job.objects.get())
    assert purge([first], actor="mira").jobs == 0
    assert DeadLetter.objects.get() == second


def test_purging_the_last_letter_takes_the_job_and_its_earlier_letters() -> None:
    first = make_letter()
    replay(first, actor="mira", reason="x")
    second = exhaust(Job.objects.get())
    drop(second, actor="mira", reason="x")
    assert purge([second], actor="mira").jobs == 1
    assert not DeadLetter.objects.exists()


def test_purge_leaves_an_audit_event_that_outlives_the_jobs() -> None:
    letter, left = make_letter(), make_letter()
    drop(letter, actor="mira", reason="x")
    purge([letter, left], actor="omar", reason="spring cleaning")
    event = Event.objects.get(verb="purged")
    assert (event.job_id, event.actor, event.reason) == (None, "omar", "spring cleaning")
    assert event.details == {"letters": [letter.pk], "jobs": [str(letter.job_id)], "skipped": 1}


def test_purging_twice_is_told_not_raised() -> None:
    letter = make_letter()
    drop(letter, actor="mira", reason="x")
    purge([letter], actor="mira")
    assert purge([letter], actor="mira").skipped == {letter.pk: f"Dead letter {letter.pk}: it no longer exists."}
