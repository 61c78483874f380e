"""Two beats on one schedule, and workers whose clocks are hours off."""

import shutil
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from jobs.models import Attempt, IdempotencyKey, Job, Worker
from jobs.processes import host
from jobs.submission import submit
from tests.site import Site, finished, many, summary
from tests.waiting import eventually

ONCE = {("SUCCESS", 1)}
TICKS = 8


@pytest.fixture(scope="module", autouse=True)
def _dispatcher(site: Site) -> None:
    site.fleet.dispatcher()


def test_two_beats_make_one_job_per_tick_also_when_the_one_that_ticks_is_killed(site: Site) -> None:
    """Scenario 31."""
    every_second, _ = IntervalSchedule.objects.get_or_create(every=1, period="seconds")
    PeriodicTask.objects.create(name="tick", task="flaky", interval=every_second, kwargs='{"failures": 0}')
    site.fleet.environment["BEAT_LEASE_SECONDS"] = "3"
    names = [beat(site, name) for name in ("beat1", "beat2")]
    ticked = Job.objects.filter(schedule="tick")
    eventually(lambda: ticked.count() >= TICKS, within=60, what="the first ticks")
    leader = Worker.objects.get(kind="beat", lease_until__gt=timezone.now())
    killed = next(name for name in names if site.fleet.pid(name) == leader.pid)
    site.fleet.kill(killed)
    before = ticked.count()
    eventually(lambda: ticked.count() >= before + TICKS, within=60, what="the standby's ticks")
    for name in names:
        if name != killed:
            site.fleet.kill(name)
    PeriodicTask.objects.all().delete()

    numbers = sorted(int(key.rpartition(":")[2]) for key in keys_of_ticks())
    assert len(numbers) == len(set(numbers)) == ticked.count()
    gaps = [later - earlier for earlier, later in pairwise(numbers)]
    assert sum(gap > 1 for gap in gaps) <= 2, f"ticks are missing: {gaps}"
    assert max(gaps) <= 10, "the standby took over within its lease, and slack"
    site.fleet.worker("w")
    assert summary(finished(list(ticked), within=30)) == ONCE
    site.fleet.kill("w")


@pytest.mark.needs_debian("faketime")
def test_workers_whose_clocks_are_two_hours_off_start_no_job_early_or_late(site: Site) -> None:
    """Scenario 32."""
    for name, offset in (("ahead", "+2h"), ("behind", "-2h")):
        site.fleet.environment |= {
            "LD_PRELOAD": libfaketime(),
            "FAKETIME": offset,
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        site.fleet.worker(name)
    for variable in ("LD_PRELOAD", "FAKETIME", "FAKETIME_DONT_FAKE_MONOTONIC"):
        del site.fleet.environment[variable]
    assert {log_hours_off(site, name) for name in ("ahead", "behind")} == {2, -2}
    now, later = many(20), many(20, delay=3)
    retried = [submit("flaky", {"failures": 1}) for _ in range(4)]
    assert summary(finished([*now, *later], within=45)) == ONCE
    assert summary(finished(retried, within=45)) == {("SUCCESS", 2)}
    jobs = Job.objects.filter(pk__in=[job.pk for job in [*now, *later, *retried]])
    waits = [(job.started_at - job.run_at).total_seconds() for job in jobs]  # type: ignore[operator]
    assert min(waits) >= 0
    assert max(waits) < 6
    assert len({job.worker_id for job in jobs}) == 2
    assert not Attempt.objects.filter(outcome="LOST", job__in=jobs).exists()
    assert not Worker.objects.filter(name__in=["ahead@test", "behind@test"], state="DEAD").exists()


def beat(site: Site, name: str) -> str:
    """Start a beat, and return its name once it has enlisted; all beats of one host share the row's name."""
    command = ["-m", "celery", "-A", "config", "beat", "-S", "jobs.ticks:TickScheduler", "--pidfile=", "-l", "INFO"]
    site.fleet.start(name, command, row=f"beat@{host()}")
    return name


def keys_of_ticks() -> list[str]:
    return list(IdempotencyKey.objects.filter(scope="beat", key__startswith="beat:tick:").values_list("key", flat=True))


def libfaketime() -> str:
    """The library of Debian's package, wherever the machine's architecture puts it."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found or shutil.which("faketime") is None:
        pytest.skip("needs faketime: apt-get install faketime")
    return str(found[0])


def log_hours_off(site: Site, name: str) -> int:
    """By how many hours the worker's own clock is off, as its first line tells."""
    eventually(lambda: "Connected to" in site.fleet.log(name), within=30, what="a line with the time")
    line = next(line for line in site.fleet.log(name).splitlines() if "Connected to" in line)
    shown = timedelta(hours=int(line[:2]), minutes=int(line[3:5]))
    real = timezone.now() - timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    hours = round((shown - real) / timedelta(hours=1))
    return (hours + 12) % 24 - 12
