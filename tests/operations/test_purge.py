import json
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from deadletters.drop import drop
from jobs.models import Event, IdempotencyKey, Job
from monitoring.models import Report
from tests.making import make_job
from tests.monitoring.making import make_attempt, make_finished, make_letter

pytestmark = pytest.mark.django_db


def purge(*arguments: str) -> dict[str, Any]:
    output = StringIO()
    try:
        call_command("purge", *arguments, "--reason", "request 1", "--yes", "--json", stdout=output)
    except CommandError:
        assert output.getvalue()
    return json.loads(output.getvalue())


def finished(task: str = "process_payment", user: Any = "usr_7", **fields: Any) -> Job:
    return make_finished(task, at=timezone.now(), payload={"user_id": user}, **fields)


def test_a_customers_jobs_go_with_everything_that_hangs_on_them() -> None:
    mine, other = finished(), finished(user="usr_8")
    make_attempt(mine, 1, "RETRY", at=timezone.now())
    IdempotencyKey.objects.create(job=mine, key="k", fingerprint=b"", expires_at=timezone.now() + timedelta(days=1))
    now = timezone.now()
    Report.objects.create(kind="user_activity", period_start=now, period_end=now, job=mine)
    told = purge("user_id=usr_7")
    assert (told["jobs"], told["reports"]) == ([str(mine.pk)], 1)
    assert list(Job.objects.all()) == [other]
    assert not IdempotencyKey.objects.exists() and not Report.objects.exists()


def test_the_audit_trail_says_who_and_why_but_not_the_value() -> None:
    job = finished()
    purge("user_id=usr_7")
    event = Event.objects.get(verb="purged")
    assert (event.reason, event.details["jobs"], event.details["field"]) == ("request 1", [str(job.pk)], "user_id")
    assert event.actor
    assert "usr_7" not in json.dumps(event.details)


def test_a_number_is_found_as_number_and_as_text() -> None:
    finished(user=42), finished(user="42"), finished(user=421)
    assert len(purge("user_id=42")["jobs"]) == 2


def test_a_payload_that_was_edited_away_is_found_by_its_letter() -> None:
    job = finished(user="usr_8", state="FAILURE")
    letter = make_letter(job, at=timezone.now(), payload_before={"user_id": "usr_7"})
    drop(letter, actor="t", reason="r")
    assert purge("user_id=usr_7")["jobs"] == [str(job.pk)]


def test_open_letters_and_unfinished_jobs_stay_and_are_named() -> None:
    waiting = make_job("process_payment", {"user_id": "usr_7", "amount": "1.00", "currency": "EUR"})
    dead = finished(state="FAILURE")
    make_letter(dead, at=timezone.now())
    with pytest.raises(CommandError, match="2 jobs are left"):
        call_command("purge", "user_id=usr_7", "--reason", "r", "--yes", stdout=StringIO(), stderr=StringIO())
    told = purge("user_id=usr_7")
    assert (told["unfinished"], told["with_open_letter"]) == ([str(waiting.pk)], [str(dead.pk)])
    assert Job.objects.count() == 2


def test_a_dry_run_tells_the_same_and_changes_nothing() -> None:
    finished()
    told = purge("user_id=usr_7", "--dry-run")
    assert len(told["jobs"]) == 1
    assert Job.objects.count() == 1 and not Event.objects.exists()


@pytest.mark.parametrize("arguments", [["user_id"], ["user_id="], ["user_id=x", "--task", "nothing"]])
def test_bad_usage_is_refused(arguments: list[str]) -> None:
    with pytest.raises(CommandError) as refused:
        call_command("purge", *arguments, "--reason", "r")
    assert refused.value.returncode == 2


def test_retire_counts_in_a_dry_run_and_deletes_otherwise() -> None:
    make_finished(at=timezone.now() - timedelta(days=60))
    counted, deleted = StringIO(), StringIO()
    call_command("retire", "--dry-run", "--json", stdout=counted)
    assert json.loads(counted.getvalue())["jobs"] == 1 == Job.objects.count()
    call_command("retire", "--json", stdout=deleted)
    assert json.loads(deleted.getvalue())["jobs"] == 1
    assert not Job.objects.exists()
