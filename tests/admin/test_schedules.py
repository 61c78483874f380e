"""When schedules run next, what became of their last ticks, and running them now."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, PeriodicTasks

from jobs import ticks
from jobs.admin import timetable
from jobs.models import Event, Job
from jobs.schedules import next_run
from jobs.submission import submit
from tests.admin.acting import answer, choose, list_of, messages_of, page_of, text_of

AT_NOON = datetime(2026, 5, 4, 12, 0, 30, tzinfo=UTC)
DAYS_AGO = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _noon_in_a_process_that_began_days_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beat sets this clock on every pass; in a web process it stays where it was at the start."""
    monkeypatch.setattr(ticks.clock, "moment", DAYS_AGO)
    monkeypatch.setattr(timezone, "now", lambda: AT_NOON)
    PeriodicTask.objects.all().delete()


def every(minutes: int) -> dict[str, Any]:
    return {"interval": IntervalSchedule.objects.get_or_create(every=minutes, period="minutes")[0]}


def cron(minute: str, hour: str, zone: str = "UTC") -> dict[str, Any]:
    return {"crontab": CrontabSchedule.objects.create(minute=minute, hour=hour, timezone=zone)}


def schedule(when: dict[str, Any], **fields: Any) -> PeriodicTask:
    """A schedule of the task `flaky`, last edited a day before noon."""
    given = {"name": "a schedule", "task": "flaky", "kwargs": '{"failures": 0}'} | when | fields
    made = PeriodicTask.objects.create(**given)
    PeriodicTask.objects.filter(pk=made.pk).update(date_changed=AT_NOON - timedelta(days=1))
    made.refresh_from_db()
    return made


def told(made: PeriodicTask) -> timetable.Timetable:
    return timetable.timetables([made])[made.pk]


def clocks(moments: list[datetime]) -> list[str]:
    return [f"{moment.astimezone(UTC):%d %H:%M}" for moment in moments]


def ticked(made: PeriodicTask, due: datetime) -> Job:
    """The job beat would have submitted."""
    entry = ticks.TickEntry(made)
    return submit("flaky", {"failures": 0}, key=entry.key(due), scope="beat", schedule=made.name)


@pytest.mark.parametrize(
    ("when", "next_five"),
    [
        (lambda: every(15), ["04 12:15", "04 12:30", "04 12:45", "04 13:00", "04 13:15"]),
        (lambda: cron("*/20", "*"), ["04 12:20", "04 12:40", "04 13:00", "04 13:20", "04 13:40"]),
        (lambda: cron("30", "3"), ["05 03:30", "06 03:30", "07 03:30", "08 03:30", "09 03:30"]),
        (lambda: cron("0", "13", "Europe/Berlin"), ["05 11:00", "06 11:00", "07 11:00", "08 11:00", "09 11:00"]),
    ],
    ids=["interval", "crontab", "once a day", "another time zone"],
)
def test_the_next_five_runs(boss: Client, when: Any, next_five: list[str]) -> None:
    made = schedule(when())
    assert clocks(told(made).upcoming) == next_five
    assert clocks([next_run(made) or AT_NOON]) == next_five[:1]
    page = text_of(boss.get(page_of(made)))
    assert [each.split()[1] + ":00" in page for each in next_five] == [True] * 5


def test_a_schedule_that_is_off_or_was_for_once_is_not_due(boss: Client) -> None:
    assert told(schedule(every(1), enabled=False)).upcoming == []
    assert next_run(PeriodicTask.objects.get()) is None
    past = ClockedSchedule.objects.create(clocked_time=AT_NOON - timedelta(hours=1))
    gone = schedule({"clocked": past}, name="once", one_off=True)
    assert told(gone).upcoming == []
    assert boss.get(page_of(gone)).status_code == 200


def test_the_last_outcome_and_the_missed_ticks_are_told(boss: Client) -> None:
    made = schedule(every(15))
    noon = AT_NOON.replace(second=0)
    job = ticked(made, noon - timedelta(minutes=15))
    ticked(made, noon - timedelta(minutes=45))
    known = told(made)
    assert clocks([tick.due for tick in known.past]) == ["04 12:00", "04 11:45", "04 11:30", "04 11:15", "04 11:00"]
    assert [tick.is_missed for tick in known.past] == [False, False, True, False, True], "the latest may still come"
    assert known.last and known.last.job == job
    assert "2 of the last 5" in text_of(boss.get(list_of(PeriodicTask)))
    assert "Mon 11:30:00 Missed" in text_of(boss.get(page_of(made)))


def test_ticks_from_before_its_last_edit_are_not_missed() -> None:
    made = schedule(every(15))
    PeriodicTask.objects.filter(pk=made.pk).update(date_changed=AT_NOON - timedelta(minutes=20))
    made.refresh_from_db()
    assert clocks([tick.due for tick in told(made).past]) == ["04 12:00", "04 11:45"]


def test_run_now_submits_one_job_that_expires_so_many_seconds_from_now(boss: Client) -> None:
    made = schedule(every(15), expire_seconds=600)
    boss.post(reverse("admin:jobs_run_schedule", args=[made.pk]))
    job = Job.objects.get()
    assert (job.task, job.schedule, job.expires_at) == ("flaky", "a schedule", AT_NOON + timedelta(minutes=10))
    assert Event.objects.filter(job=job, verb="run now", actor="boss").count() == 1


def test_who_may_not_submit_cannot_run_a_schedule_now(person: Any) -> None:
    made = schedule(every(15))
    viewer = person("django_celery_beat.view_periodictask")
    run = reverse("admin:jobs_run_schedule", args=[made.pk])
    assert viewer.post(run).status_code == 403
    assert run not in viewer.get(list_of(PeriodicTask)).content.decode()
    assert not Job.objects.exists()


@pytest.mark.parametrize(("verb", "was_on"), [("disable", True), ("enable", False)])
def test_a_schedule_is_switched_off_or_on_for_a_reason_that_is_kept(boss: Client, verb: str, was_on: bool) -> None:
    made = schedule(every(15), enabled=was_on)
    PeriodicTask.objects.filter(pk=made.pk).update(last_run_at=DAYS_AGO)
    PeriodicTasks.objects.update(last_update=DAYS_AGO)
    assert "This field is required" in text_of(answer(boss, verb, [made], " "))
    assert messages_of(answer(boss, verb, [made], "partner is down")) == [f"{verb.capitalize()}d: 1 periodic task."]
    made.refresh_from_db()
    assert (made.enabled, made.last_run_at) == (not was_on, None), "nothing is made up for"
    assert told(made).missed == 0, "what was not due while it was off, was not missed"
    assert PeriodicTasks.last_change() == AT_NOON, "beat reads it again"
    event = Event.objects.get(verb=f"schedule {verb}d")
    assert (event.actor, event.reason, event.details) == ("boss", "partner is down", {"schedule": "a schedule"})
    assert f"Left alone: it is {verb}d already" in text_of(choose(boss, verb, [made]))
    again = answer(boss, verb, [made], "partner is down")
    assert f"Schedule 'a schedule' is {verb}d already." in messages_of(again)[0]
