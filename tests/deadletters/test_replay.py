from dataclasses import replace

import pytest
from django.db import IntegrityError

from deadletters.drop import drop
from deadletters.models import DeadLetter
from deadletters.replay import replay, replay_all
from jobs import policies, registry
from jobs.errors import Conflict, InvalidJob
from jobs.execution import execute
from jobs.models import Event, IdempotencyKey, Job, JobLabel
from jobs.submission import KEY_TAKEN_OVER, submit
from tests.deadletters.making import exhaust, make_letter
from tests.making import force_state, make_job


def run_again(letter: DeadLetter) -> None:
    execute(registry.find(letter.task), letter.job_id)


def test_replay_keeps_the_id_and_the_key_and_starts_from_zero() -> None:
    letter = make_letter(key="order-1", tags=["vip"])
    replay(letter, actor="mira", reason="gateway is back")
    job = Job.objects.get()
    assert (job.pk, job.idempotency_key, job.state) == (letter.job_id, "order-1", "PENDING")
    assert (job.retries, job.deaths, job.finished_at, job.error, job.dispatched_at) == (0, 0, None, None, None)
    assert job.attempt == 1, "the fencing number never goes back"
    assert IdempotencyKey.objects.get().job_id == job.pk
    assert set(JobLabel.objects.values_list("label", flat=True)) == {"tag:vip"}


def test_replay_says_who_when_and_why() -> None:
    letter = make_letter()
    replay(letter, actor="mira", reason="gateway is back")
    letter.refresh_from_db()
    assert (letter.resolution, letter.resolved_by, letter.resolved_reason) == ("REPLAYED", "mira", "gateway is back")
    assert letter.resolved_at is not None
    event = Event.objects.get(job=letter.job_id)
    assert (event.verb, event.actor, event.reason) == ("replayed", "mira", "gateway is back")
    assert event.details == {"letter": letter.pk, "edited": False}


def test_replay_takes_the_limits_from_the_policy_in_force() -> None:
    letter = make_letter()
    assert Job.objects.get().max_retries == 0
    replay(letter, actor="mira", reason="x")
    rules = policies.policy("always_fails")
    job = Job.objects.get()
    assert (job.max_retries, job.max_deaths) == (rules.max_retries, rules.max_deaths)


def test_a_second_exhaustion_opens_a_second_letter() -> None:
    first = make_letter()
    replay(first, actor="mira", reason="x")
    second = exhaust(Job.objects.get())
    assert second.pk != first.pk
    assert (second.job_id, second.attempt) == (first.job_id, 2)
    assert DeadLetter.objects.open().count() == 1


def test_an_edited_payload_runs_and_both_versions_are_kept() -> None:
    letter = exhaust(make_job("flaky", {"failures": 50}, tags=["vip"]))
    replay(letter, actor="mira", reason="typo", payload={"failures": 0})
    run_again(letter)
    letter.refresh_from_db()
    job = Job.objects.get()
    assert (job.state, job.payload) == ("SUCCESS", {"failures": 0})
    assert (letter.payload_before, letter.payload_after) == ({"failures": 50}, {"failures": 0})


def test_labels_follow_an_edited_payload_and_tags_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    with_search = replace(policies.policy("flaky"), searchable=("failures",))
    loaded = policies._load(policies.Path(policies.settings.POLICIES_FILE))
    monkeypatch.setitem(loaded, "flaky", with_search)
    letter = exhaust(make_job("flaky", {"failures": 50}, tags=["vip"]))
    assert set(JobLabel.objects.values_list("label", flat=True)) == {"tag:vip", "failures:50"}
    replay(letter, actor="mira", reason="typo", payload={"failures": 0})
    assert set(JobLabel.objects.values_list("label", flat=True)) == {"tag:vip", "failures:0"}


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({"failures": "three"}, "/payload/failures"),
        ({"unknown": 1}, "/payload/unknown"),
        ({"failures": float("nan")}, "/payload/failures"),
        ([1], "/payload"),
    ],
)
def test_an_edited_payload_the_task_does_not_take_changes_nothing(payload: object, field: str) -> None:
    letter = exhaust(make_job("flaky", {"failures": 50}))
    with pytest.raises(InvalidJob) as refused:
        replay(letter, actor="mira", reason="x", payload=payload)  # type: ignore[arg-type]
    assert refused.value.field == field
    letter.refresh_from_db()
    assert letter.is_open
    assert Job.objects.get().state == "FAILURE"
    assert not Event.objects.exists()


def test_an_edited_replay_leaves_the_key_to_the_request_as_first_sent() -> None:
    letter = exhaust(make_job("flaky", {"failures": 50}, key="k"))
    replay(letter, actor="mira", reason="x", payload={"failures": 0})
    assert submit("flaky", {"failures": 50}, key="k").pk == letter.job_id


def test_a_letter_is_replayed_once() -> None:
    letter = make_letter()
    replay(letter, actor="mira", reason="x")
    with pytest.raises(Conflict, match=f"Dead letter {letter.pk} was replayed already by mira"):
        replay(letter, actor="omar", reason="y")
    assert Event.objects.count() == 1


def test_a_dropped_letter_cannot_be_replayed() -> None:
    letter = make_letter()
    drop(letter, actor="mira", reason="x")
    with pytest.raises(Conflict, match="was dropped already by mira"):
        replay(letter, actor="omar", reason="y")
    assert Job.objects.get().state == "FAILURE"


def test_a_job_that_is_not_a_failure_is_not_replayed_and_its_letter_stays_open() -> None:
    letter = make_letter()
    force_state(letter.job, "PENDING")
    with pytest.raises(Conflict, match="is PENDING"):
        replay(letter, actor="mira", reason="x")
    letter.refresh_from_db()
    assert letter.is_open


def test_a_job_whose_key_was_taken_over_is_not_replayed() -> None:
    letter = make_letter(key="k")
    Event.objects.create(job_id=letter.job_id, verb=KEY_TAKEN_OVER)
    with pytest.raises(Conflict, match="idempotency key belongs to a later job"):
        replay(letter, actor="mira", reason="x")
    letter.refresh_from_db()
    assert letter.is_open


def test_a_letter_that_is_gone_is_a_conflict() -> None:
    letter = make_letter()
    Job.objects.all().delete()
    with pytest.raises(Conflict, match="no longer exists"):
        replay(letter, actor="mira", reason="x")


def test_one_bad_letter_does_not_undo_the_others() -> None:
    letters = [make_letter(str(number)) for number in range(3)]
    replay(letters[1], actor="omar", reason="first")
    tally = replay_all(letters, actor="mira", reason="all")
    assert tally.done == [letters[0].pk, letters[2].pk]
    assert tally.skipped == {letters[1].pk: f"Dead letter {letters[1].pk} was replayed already by omar."}
    assert Job.objects.filter(state="PENDING").count() == 3


def test_the_schema_itself_allows_one_open_letter_per_job() -> None:
    letter = make_letter()
    copy = DeadLetter(job_id=letter.job_id, attempt=99, task="t", queue="q", cause="EXHAUSTED", reason="r")
    with pytest.raises(IntegrityError, match="one_open_letter_per_job"):
        copy.save(force_insert=True)
