"""The pictures of the panel in docs/images: `python3 dev.py test tests/browser/pictures.py` takes them anew."""

import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from celery import current_app
from django.db import connection
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from deadletters.models import ReplayOperation
from jobs.admin.timetable import timetables
from jobs.models import Job, Worker
from jobs.pausing import pause, resume
from jobs.submission import submit
from jobs.ticks import TickEntry
from monitoring.histograms import BUCKETS
from monitoring.models import Rollup, RollupProgress
from monitoring.rollups import floor_minute
from tests.browser.failed import make_failed
from tests.browser.pages import GROUPS, change
from tests.browser.person import Person
from tests.fleet import ROOT

IMAGES = ROOT / "docs" / "images"
WIDTH, LOWEST, HIGHEST = 1400, 760, 1400
MISSING = "queue report, hourly"
# Buckets of the typical wait and run, jobs per minute, share that fails.
BUSY = {"high": (6, 5, 38, 0.004), "default": (10, 7, 24, 0.04), "low": (11, 9, 9, 0.01)}


def test_the_pictures_are_taken(person: Callable[..., Person]) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    chance = random.Random(7)
    an_hour(chance)
    work(chance)
    beating()
    mira = person()
    pause("low", actor="mira", reason="partner maintenance")
    try:
        take(mira, "overview", "/admin/")
        take(mira, "jobs", "/admin/jobs/job/")
        failed = Job.objects.filter(fingerprint="p-timeout")[0]
        waiting = mira.waits(retried, "a job to wait for its third try")
        take(mira, "job", change(waiting))
        take(mira, "dead-letters", GROUPS)
        take(mira, "group", f"{GROUPS}{failed.fingerprint}/")
        mira.write("#id_reason", "partner confirmed the gateway is back").write("#id_pace", "5").click("#replay-now")
        mira.waits(lambda: ReplayOperation.objects.filter(done__gt=20).exists(), "a part of the replay")
        take(mira, "replay", f"{GROUPS}{failed.fingerprint}/")
        take(mira, "replay-dark", f"{GROUPS}{failed.fingerprint}/", scheme="dark")
        ticked(mira)
        take(mira, "schedules", "/admin/django_celery_beat/periodictask/")
        take(mira, "schedule", change(PeriodicTask.objects.get(name=MISSING)))
        take(mira, "submit", "/admin/jobs/job/submit/send_email/")
        take(mira, "overview-dark", "/admin/", scheme="dark")
    finally:
        resume("low", actor="mira")


def an_hour(chance: random.Random) -> None:
    """Rollups of the last hour, as a busy installation would have them."""
    now = floor_minute(timezone.now())
    Rollup.objects.all().delete()
    RollupProgress.objects.update_or_create(id=1, defaults={"frozen_until": now, "built_until": now})
    for ago in range(1, 61):
        for queue, (wait, run, number, share) in BUSY.items():
            done = max(0, round(chance.gauss(number, number * 0.14)))
            trouble = 6 if queue == "default" and 22 <= ago <= 28 else 1
            failed = round(done * share * trouble + chance.random() * 0.6)
            slow = round(done * chance.uniform(0.05, 0.4))
            Rollup.objects.create(
                minute=now - timedelta(minutes=ago),
                queue=queue,
                task="send_email",
                submitted=max(0, done + chance.randint(-4, 4)),
                started=done,
                succeeded=done - failed,
                failed=failed,
                retried=failed * 2 + chance.randrange(2),
                dead_lettered=failed,
                wait_buckets=around(wait, done - slow, slow),
                run_buckets=around(run, done - slow, slow),
            )


def around(bucket: int, number: int, slow: int) -> list[int]:
    return [0] * (bucket - 1) + [number, slow] + [0] * (BUCKETS - bucket - 1)


def work(chance: random.Random) -> None:
    make_failed(214, "ReadTimeout: invoices.partner.example did not answer within 10 s", "p-timeout", task="flaky")
    make_failed(38, "CardDeclined: insufficient funds", "p-declined", task="process_payment", payload=PAYMENT)
    make_failed(1206, "KeyError: 'vat_rate'", "p-vat", task="process_data", payload={"records": [{"id": 1}]})
    with connection.cursor() as cursor:
        earlier = "created_at - random() * random() * interval '14 hours'"
        spread = f"UPDATE {{}} SET created_at = {earlier} WHERE fingerprint = ANY(%s)"
        for table in ("deadletters_deadletter", "jobs_job"):
            cursor.execute(spread.format(table), [["p-timeout", "p-declined", "p-vat"]])
    for number in range(24):
        submit("send_email", {"to": f"user{number}@example.com", "subject": "Your receipt", "body": "Thank you."})
        submit("flaky", {"failures": chance.choice([0, 0, 0, 1])})
        submit("process_data", {"records": [{"id": number, "value": 3}]}, queue="low")
    submit("flaky", {"failures": 3}, key="invoice-88213", tags=["billing"])
    for seconds in (8, 90):
        submit("slow", {"seconds": seconds})


def retried() -> Job | None:
    return Job.objects.filter(key__key="invoice-88213", state="RETRY", retries=2).first()


def beating() -> None:
    """No beat runs here; its traces are those of one that does."""
    now = timezone.now()
    minute, _ = IntervalSchedule.objects.get_or_create(every=1, period="minutes")
    hour, _ = CrontabSchedule.objects.get_or_create(minute="2", hour="*")
    for name, task, when in (
        ("rollups", "build_rollups", {"interval": minute}),
        ("replays", "resume_replays", {"interval": minute}),
        (MISSING, "queue_report", {"crontab": hour}),
    ):
        PeriodicTask.objects.get_or_create(name=name, defaults={"task": task, **when})
    PeriodicTask.objects.update(last_run_at=now)
    beat = {"kind": "beat", "name": "beat@app-01", "host": "app-01", "pid": 1, "lease_until": now + timedelta(hours=1)}
    Worker.objects.create(**beat)


def ticked(mira: Person) -> None:
    """Jobs of the schedules' last ticks, but for one that was missed."""
    PeriodicTask.objects.update(date_changed=timezone.now() - timedelta(days=3))
    schedules = {schedule.pk: schedule for schedule in PeriodicTask.objects.all()}
    made = {}
    for pk, timetable in timetables(schedules.values()).items():
        key, name = TickEntry(schedules[pk], app=current_app).key, schedules[pk].name
        for number, tick in enumerate(timetable.past):
            if (name, number) != (MISSING, 3):
                how = {"key": key(tick.due), "scope": "beat", "schedule": name, "queue": "high"}
                made[submit("flaky", {"failures": 0}, **how).pk] = tick.due
    mira.waits(lambda: not Job.objects.filter(pk__in=made).unfinished().exists(), "the ticks to end")
    for pk, due in made.items():
        Job.objects.filter(pk=pk).update(created_at=due)


PAYMENT = {"user_id": "usr_7", "amount": "12.50", "currency": "EUR"}


def take(mira: Person, name: str, page: str, *, scheme: str = "light") -> None:
    mira.prefers(scheme).is_as_big_as(WIDTH, LOWEST).open(page)
    mira.waits(lambda: mira.run("return document.fonts.status === 'loaded'"), "the fonts")
    if page == "/admin/":
        mira.waits(lambda: mira.all(".uplot"), "the charts")
        mira.sees("Live", css="#fresh")
    # A page that is not much higher than the window is shown whole.
    height = mira.run("return document.documentElement.scrollHeight")
    mira.is_as_big_as(WIDTH, max(height, LOWEST) if height <= HIGHEST else LOWEST)
    Path(IMAGES / f"{name}.png").write_bytes(mira.driver.get_screenshot_as_png())
