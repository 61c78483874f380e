"""The page of one job: its past in order, how its errors differ, what belongs to it."""

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from jobs.models import Event, Job
from tests.admin.acting import list_of, page_of, part_of, text_of
from tests.making import make_job
from tests.monitoring.making import make_attempt, make_finished

TIMEOUT = {
    "error_code": "ReadTimeout",
    "error": "no answer",
    "traceback": "Traceback\n  in send\nReadTimeout: none",
}
REFUSED = {"error_code": "Refused", "error": "closed", "traceback": "Traceback\n  in send\nRefused: closed"}


@pytest.fixture
def tried() -> Job:
    """A job that failed twice, was made due by hand, and succeeded."""
    now = timezone.now()
    at = [now - timedelta(minutes=minutes) for minutes in range(30)]
    job = make_finished(at=at[1], wait=4, run=30, created_at=at[20])
    Job.objects.filter(pk=job.pk).update(attempt=4, retries=3)
    make_attempt(job, 1, "RETRY", at=at[15], worker_name="w1@here", **TIMEOUT)
    make_attempt(job, 2, "RETRY", at=at[10], worker_name="w2@here", **TIMEOUT)
    make_attempt(job, 3, "RETRY", at=at[5], worker_name="w3@here", **REFUSED)
    Event.objects.create(job=job, verb="retry now", actor="mira", reason="it is back", at=at[12])
    return job


def test_each_attempt_says_how_long_it_waited_and_ran_and_where(boss: Client, tried: Job) -> None:
    attempts = part_of(boss.get(page_of(tried)), '<ol class="timeline">', "</ol>")
    for number, (code, worker) in enumerate((("ReadTimeout", "w1"), ("ReadTimeout", "w2"), ("Refused", "w3")), 1):
        assert f"{number} {code} waited 3.0 s, ran 2.0 s on {worker}@here" in attempts
    assert "4 Succeeded waited 4.0 s, ran 30 s" in attempts


def test_the_history_tells_every_move_in_order(boss: Client, tried: Job) -> None:
    told = part_of(boss.get(page_of(tried)), '<ol class="log">', "</ol>")
    moves = [
        "submitted",
        "attempt 1 started", "attempt 1: failed, tried again, ReadTimeout",
        "retry now by mira : it is back",
        "attempt 2 started", "attempt 2: failed, tried again, ReadTimeout",
        "attempt 3 started", "attempt 3: failed, tried again, Refused",
        "attempt 4 started", "succeeded",
    ]  # fmt: skip
    assert re.split(r" ?\d\d:\d\d:\d\d ", told)[1:] == moves


def test_only_an_error_that_differs_from_the_one_before_shows_its_difference(boss: Client, tried: Job) -> None:
    page = boss.get(page_of(tried))
    assert [f"What attempt {number} said differently" in text_of(page) for number in (1, 2, 3)] == [False, False, True]
    difference = part_of(page, "What attempt 3 said differently", "</details>")
    for line in ("- no answer", "+ closed", "- ReadTimeout: none", "+ Refused: closed"):
        assert line.replace(" ", "", 1) in difference


def test_a_job_leads_to_its_schedule_and_its_callback(boss: Client) -> None:
    minute, _ = IntervalSchedule.objects.get_or_create(every=1, period="minutes")
    for name in ("every minute", "another"):
        PeriodicTask.objects.create(name=name, task="flaky", interval=minute)
    job = make_job(schedule="every minute", callback_url="https://example.com/hook")
    callback = make_job(key=f"callback:{job.pk}:{job.attempt}")
    html = boss.get(page_of(job)).content.decode()
    leads = {text: address for address, text in re.findall(r'<a class="link" href="([^"]+)">([^<]+)</a>', html)}
    assert {row.name for row in boss.get(leads["every minute"]).context["cl"].result_list} == {"every minute"}
    assert [row.pk for row in boss.get(leads["https://example.com/hook"]).context["cl"].result_list] == [callback.pk]


def test_redacted_fields_of_a_result_are_masked(boss: Client, person: Any) -> None:
    result = {"status": "sent", "copies": [{"body": "hunter2"}]}
    job = make_finished("send_email", at=timezone.now(), payload={"to": "a@example.com"}, result=result)
    masked = part_of(person("jobs.view_job").get(page_of(job)), 'id="result"', "</pre>")
    assert "sent" in masked
    assert "••••" in masked
    assert "hunter2" not in masked
    assert "hunter2" in part_of(boss.get(page_of(job)), 'id="result"', "</pre>")


def test_the_list_shows_state_progress_and_times_as_people_say_them(boss: Client) -> None:
    now = timezone.now()
    ended = make_finished(
        state="FAILURE", at=now - timedelta(minutes=2), wait=7, run=90, error="ReadTimeout: no answer"
    )
    running = Job.objects.create(
        task="slow", queue="low", state="STARTED", max_retries=3, max_deaths=3, attempt=1, worker_id=uuid4(),
        claim_token=uuid4(), created_at=now - timedelta(hours=3), run_at=now - timedelta(seconds=50),
        started_at=now - timedelta(seconds=40), progress={"done": 3, "total": 8},
    )  # fmt: skip
    waiting = make_job(delay=7300)
    html = boss.get(list_of(Job)).content.decode()
    rows = {pk: row for row in html.split("<tr>") for pk in re.findall(r'<code title="([^"]+)">', row)}
    for job, said in ((ended, "Failure"), (running, "Started"), (waiting, "Pending")):
        assert f'class="state state-{job.state.lower()}">{said}</span>' in rows[str(job.pk)]
    assert '<progress max="100" value="38"' in rows[str(running.pk)]
    assert sum("<progress" in row for row in rows.values()) == 1
    for job, cells in ((ended, ("7.0 s", "1 min 30 s", "3 min ago", "no answer")),
                       (running, ("10 s", "3 h ago")), (waiting, ("due in 2 h", "s ago"))):  # fmt: skip
        assert [cell for cell in cells if cell not in rows[str(job.pk)]] == []
