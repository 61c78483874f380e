import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

import psycopg
import pytest
from celery import current_app
from django.apps import apps
from django.utils import timezone
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask

from jobs import registry
from jobs import ticks as ticks_module
from jobs.ids import uuid7
from jobs.models import IdempotencyKey, Job, Worker
from jobs.processes import host
from jobs.submission import submit
from jobs.ticks import MISSED_AFTER, Aligned, TickEntry, TickScheduler, clock, take_lease
from tests.fleet import Fleet, database_url
from tests.making import make_worker
from tests.waiting import eventually

BEAT = ["-m", "celery", "-A", "config", "beat", "-S", "jobs.ticks:TickScheduler", "--loglevel", "INFO"]


def make_entry(name: str = "entry", *, task: str = "flaky", ago: timedelta = timedelta(hours=1), **fields: Any) -> Any:
    """A schedule that ran `ago`; every minute unless it says otherwise."""
    if not {"crontab", "interval", "clocked"} & fields.keys():
        fields["interval"], _ = IntervalSchedule.objects.get_or_create(every=1, period="minutes")
    for field in ("args", "kwargs", "headers"):
        fields[field] = json.dumps(fields[field]) if field in fields else PeriodicTask._meta.get_field(field).default
    given = {"task": task, "last_run_at": timezone.now() - ago} | fields
    return PeriodicTask.objects.update_or_create(name=name, defaults=given)[0]


def every_second() -> IntervalSchedule:
    return IntervalSchedule.objects.get_or_create(every=1, period="seconds")[0]


def crontab(moment: datetime) -> CrontabSchedule:
    """Due once a day, at this time."""
    return CrontabSchedule.objects.create(minute=str(moment.minute), hour=str(moment.hour), timezone="UTC")


def entry(model: PeriodicTask) -> TickEntry:
    return TickEntry(model, app=current_app._get_current_object())


@pytest.fixture
def beat() -> Callable[[], TickScheduler]:
    """Makes schedulers in this process, which is enlisted as a beat."""
    PeriodicTask.objects.update(enabled=False)
    make_worker(kind="beat", name="beat@test")
    return lambda: TickScheduler(app=current_app._get_current_object(), lazy=True)


@pytest.fixture
def other() -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url(), autocommit=True) as session:
        yield session


def cut_off(other: psycopg.Connection[Any]) -> None:
    """End every session but this one."""
    other.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


def tick_all(scheduler: TickScheduler) -> None:
    """Tick until nothing is due."""
    while scheduler.tick() == 0:
        pass


@pytest.mark.django_db(transaction=True)
def test_a_due_entry_becomes_a_job_that_names_its_schedule_and_tick(beat: Any) -> None:
    make_entry(kwargs={"failures": 2})
    tick_all(beat())
    job = Job.objects.get()
    assert (job.task, job.payload, job.schedule) == ("flaky", {"failures": 2}, "entry")
    assert (job.key.scope, job.key.key) == ("beat", f"beat:entry:{int(clock.now().timestamp() // 60)}")
    assert PeriodicTask.objects.get(name="entry").total_run_count == 1


@pytest.mark.django_db(transaction=True)
def test_two_beats_that_tick_at_once_make_one_job(beat: Any) -> None:
    make_entry()
    daily = crontab(timezone.now())
    make_entry("daily", crontab=daily, ago=timedelta(hours=20), headers={"missed": "run_once"})
    both = beat(), beat()
    before = list(PeriodicTask.objects.filter(enabled=True).values_list("pk", "last_run_at"))
    for scheduler in both:
        for pk, last_run_at in before:
            PeriodicTask.objects.filter(pk=pk).update(last_run_at=last_run_at)
        tick_all(scheduler)
    assert sorted(Job.objects.values_list("schedule", flat=True)) == ["daily", "entry"]


@pytest.mark.django_db(transaction=True)
def test_only_the_holder_of_the_lease_ticks(beat: Any) -> None:
    make_entry()
    holder = make_worker(id=uuid7(), kind="beat", name="holder", lease_until=timezone.now() + timedelta(seconds=60))
    scheduler = beat()
    assert scheduler.tick() > 0
    assert not Job.objects.exists()
    Worker.objects.filter(pk=holder.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    tick_all(scheduler)
    assert Job.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_dead_beats_lease_is_free_at_once(beat: Any) -> None:
    make_worker(id=uuid7(), kind="beat", state="DEAD", lease_until=timezone.now() + timedelta(seconds=60))
    assert take_lease()


@pytest.mark.django_db(transaction=True)
def test_a_beat_that_was_declared_dead_gets_no_lease(beat: Any) -> None:
    make_worker(kind="beat", state="DEAD")
    assert take_lease() is None


@pytest.mark.django_db(transaction=True)
def test_an_entry_that_cannot_be_submitted_is_named_in_an_error_and_stops_no_other(
    beat: Any, caplog: pytest.LogCaptureFixture
) -> None:
    make_entry("wrong", task="slow", kwargs={"seconds": "many"})
    make_entry("nul", task="always_fails", headers={"trace": "\0"})
    make_entry("unreadable", headers=[1])
    make_entry("right")
    with caplog.at_level(logging.ERROR):
        tick_all(beat())
    assert list(Job.objects.values_list("schedule", flat=True)) == ["right"]
    assert {record.schedule for record in caplog.records if record.levelname == "ERROR"} == {
        "wrong",
        "nul",
        "unreadable",
    }


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("headers", "made"), [({}, 0), ({"missed": "skip"}, 0), ({"missed": "run_once"}, 1)])
def test_a_missed_tick_is_skipped_unless_the_entry_says_run_once(beat: Any, headers: dict[str, str], made: int) -> None:
    missed = timezone.now() - timedelta(hours=5)
    make_entry(crontab=crontab(missed), ago=timedelta(days=3, hours=5, minutes=30), headers=headers)
    tick_all(beat())
    keys = list(IdempotencyKey.objects.values_list("key", flat=True))
    assert keys == [f"beat:entry:{missed.astimezone(UTC):%Y-%m-%dT%H:%M}+00:00"] * made
    assert PeriodicTask.objects.get(name="entry").last_run_at > missed


@pytest.mark.django_db(transaction=True)
def test_a_lost_database_connection_costs_no_tick(beat: Any, other: psycopg.Connection[Any]) -> None:
    scheduler = beat()
    tick_all(scheduler)
    make_entry()
    cut_off(other)
    assert scheduler.tick() > 0
    tick_all(scheduler)
    assert Job.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_database_lost_in_the_middle_of_a_tick_costs_no_tick(
    beat: Any, other: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_it_once(*args: Any, **options: Any) -> Job:
        monkeypatch.undo()
        cut_off(other)
        return submit(*args, **options)

    monkeypatch.setattr(ticks_module, "submit", lose_it_once)
    make_entry()
    scheduler = beat()
    tick_all(scheduler)
    assert not Job.objects.exists()
    tick_all(scheduler)
    assert Job.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_task_that_is_no_job_is_sent_as_celery_sends_it(beat: Any, broker: Any) -> None:
    make_entry(task="celery.backend_cleanup")
    tick_all(beat())
    assert broker.llen("default") == 1
    assert not Job.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_queue_priority_expiry_and_headers_of_an_entry_are_those_of_its_job(beat: Any) -> None:
    make_entry("queue", queue="low", args=[3], priority=0)
    make_entry("first", priority=0)
    make_entry("last", priority=9)
    make_entry("short", expire_seconds=60, headers={"traceparent": "00-1"})
    tick_all(beat())
    jobs = {job.schedule: job for job in Job.objects.all()}
    assert {name: job.queue for name, job in jobs.items()} == {
        "queue": "low",
        "first": "high",
        "last": "low",
        "short": "default",
    }
    assert jobs["queue"].payload == {"failures": 3}
    assert jobs["short"].expires_at - jobs["short"].created_at < timedelta(seconds=61)
    assert jobs["short"].trace == {"traceparent": "00-1"}


@pytest.mark.django_db(transaction=True)
def test_a_clocked_entry_runs_once(beat: Any) -> None:
    due = timezone.now().replace(microsecond=0) - timedelta(seconds=2)
    make_entry(clocked=ClockedSchedule.objects.create(clocked_time=due), one_off=True)
    scheduler = beat()
    tick_all(scheduler)
    tick_all(beat())
    assert Job.objects.get().key.key == f"beat:entry:{due.astimezone(UTC).isoformat()}"


@pytest.mark.django_db(transaction=True)
def test_an_edit_made_since_the_schedule_was_read_stays(beat: Any) -> None:
    make_entry(interval=every_second())
    scheduler = beat()
    tick_all(scheduler)
    PeriodicTask.objects.filter(name="entry").update(description="edited")
    eventually(lambda: scheduler.tick() == 0 and Job.objects.count() > 1, within=10, what="the next tick")
    assert PeriodicTask.objects.get(name="entry").description == "edited"


def test_interval_ticks_are_the_multiples_of_the_period() -> None:
    every_seven = Aligned(timedelta(minutes=7))
    every_seven.nowfun = lambda: datetime(1970, 1, 1, 0, 20, tzinfo=UTC)
    last = datetime(1970, 1, 1, 0, 13, tzinfo=UTC)
    assert every_seven.tick(last) == 1
    assert every_seven.is_due(last) == (True, 60.0)
    assert every_seven.is_due(last + timedelta(minutes=1)) == (False, 60.0)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("now", "last", "due"),
    [
        ("2026-11-20T03:30:00", "2026-11-19T03:30:02", "2026-11-20T03:30"),
        ("2026-11-20T03:45:10", "2026-11-19T03:30:02", "2026-11-20T03:30"),
        ("2026-11-20T03:29:59", "2026-10-01T03:30:02", "2026-11-19T03:30"),
        ("2026-11-20T12:00:00", "2020-01-01T00:00:00", "2026-11-20T03:30"),
    ],
)
def test_the_latest_due_time_is_found_however_long_ago_the_entry_ran(
    monkeypatch: pytest.MonkeyPatch, now: str, last: str, due: str
) -> None:
    monkeypatch.setattr(clock, "moment", datetime.fromisoformat(f"{now}+00:00"))
    half_past_three = CrontabSchedule.objects.create(minute="30", hour="3", timezone="UTC")
    model = make_entry(crontab=half_past_three)
    model.last_run_at = datetime.fromisoformat(f"{last}+00:00")
    found = entry(model).latest_due()
    assert found == datetime.fromisoformat(f"{due}:00+00:00")
    assert entry(model).is_missed(found) is (clock.now() - found > MISSED_AFTER)


@pytest.fixture
def beats(transactional_db: None, tmp_path: Any) -> Iterator[Fleet]:
    PeriodicTask.objects.update(enabled=False)
    ships = Fleet(tmp_path, BEAT_LEASE_SECONDS="3")
    yield ships
    ships.stop()


def holder() -> Worker | None:
    """The beat that has the lease; fails when two have it."""
    holders = Worker.objects.filter(kind="beat", lease_until__gt=timezone.now()).exclude(state="DEAD")
    assert len(holders) < 2
    return holders.first()


def ticks() -> list[int]:
    keys = IdempotencyKey.objects.filter(scope="beat").values_list("key", flat=True)
    return sorted(int(key.rpartition(":")[2]) for key in keys)


def test_of_two_beats_one_ticks_and_the_other_takes_over_within_the_lease(beats: Fleet) -> None:
    make_entry("second", interval=every_second(), ago=timedelta(0))
    rows = {name: beats.start(name, BEAT, row=f"beat@{host()}") for name in ("one", "two")}
    eventually(lambda: holder() and len(ticks()) >= 4, within=20, what="four ticks")

    first = holder()
    assert first
    name = next(name for name, row in rows.items() if row.pk == first.pk)
    beats.kill(name)
    last = ticks()[-1]
    eventually(lambda: len([tick for tick in ticks() if tick > last]) >= 3, within=20, what="ticks of the other beat")

    after = [tick for tick in ticks() if tick > last]
    assert after[0] - last <= 3 + 2
    assert Job.objects.count() == len(ticks())
    second = holder()
    assert second and second.pk != first.pk


def test_a_beat_that_is_stopped_hands_over_at_once(beats: Fleet) -> None:
    beats.environment["BEAT_LEASE_SECONDS"] = "60"
    beat_row = beats.start("one", BEAT, row=f"beat@{host()}")
    eventually(holder, within=20, what="the first beat to lead")
    beats.start("two", BEAT, row=f"beat@{host()}")
    assert beats.kill("one", 15) == 0
    beat_row.refresh_from_db()
    assert beat_row.state == "DEAD"
    led_by_other = eventually(holder, within=10, what="the second beat to lead")
    assert led_by_other.pk != beat_row.pk


def test_redis_being_away_does_not_matter(beats: Fleet) -> None:
    beats.environment["REDIS_URL"] = "redis://127.0.0.1:1/0"
    make_entry("second", interval=every_second(), ago=timedelta(0))
    beats.start("one", BEAT, row=f"beat@{host()}")
    eventually(lambda: Job.objects.filter(dispatched_at=None).count() >= 3, within=20, what="three ticks")


@pytest.mark.django_db
def test_the_schedules_that_ship_are_made_once_and_name_jobs() -> None:
    migration = import_module("monitoring.migrations.0003_schedules")
    create = migration.Migration.operations[0].code
    PeriodicTask.objects.all().delete()
    create(apps, None)
    create(apps, None)
    shipped = PeriodicTask.objects.all()
    assert {(each.task, each.kwargs, str(each.crontab or each.interval)) for each in shipped} == {
        ("queue_report", '{"period": "hourly"}', "2 * * * * (m/h/dM/MY/d) UTC"),
        ("queue_report", '{"period": "daily"}', "5 0 * * * (m/h/dM/MY/d) UTC"),
        ("retire_jobs", "{}", "30 3 * * * (m/h/dM/MY/d) UTC"),
        ("build_rollups", "{}", "every minute"),
    }
    for each in shipped:
        registry.converted(current_app.tasks[each.task], json.loads(each.kwargs))
