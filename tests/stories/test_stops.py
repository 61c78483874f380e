"""Stops: a deploy, an impatient supervisor, a kill after a stop. A clean stop is nobody's death.

Everything happens twice, side by side: on a worker as shipped (queue `default`), and on one with late
acknowledgement off (queue `low`).
"""

import os
import signal
from typing import Any

import pytest

from jobs.models import Job, Worker
from jobs.submission import submit
from tests.fleet import Fleet
from tests.waiting import eventually, settled, started

LATE, EARLY = BOTH = ("default", "low")


@pytest.fixture(scope="module", autouse=True)
def _dispatcher(fleet: Fleet) -> None:
    fleet.dispatcher()


@pytest.fixture
def workers(fleet: Fleet) -> Fleet:
    """Two workers that are up, whatever the story before did to them."""
    hire(fleet)
    return fleet


def hire(fleet: Fleet) -> None:
    """A cold stop of these waits a fifth of the shipped time."""
    for queue in BOTH:
        if queue not in fleet.processes or fleet.processes[queue].poll() is not None:
            fleet.environment["TASK_ACKS_LATE"] = str(int(queue == LATE))
            fleet.launch_worker(queue, queues=queue, size=2, arguments=["--", "worker.soft_shutdown_timeout=2"])
    for queue in BOTH:
        fleet.enlisted(queue)


def naps(seconds: float) -> list[Job]:
    return [submit("slow", {"seconds": seconds}, queue=queue) for queue in BOTH]


def running(seconds: float = 60) -> list[Job]:
    """Jobs that have started; a next attempt would be over at once."""
    jobs = [started(job) for job in naps(seconds)]
    shorten(jobs)
    return jobs


def shorten(jobs: list[Job]) -> None:
    Job.objects.filter(pk__in=[job.pk for job in jobs]).update(payload={"seconds": 0})


def tell(fleet: Fleet, how: signal.Signals) -> None:
    """Tell both workers to stop, and wait until their rows say so."""
    pids = [fleet.pid(queue) for queue in BOTH]
    for pid in pids:
        os.kill(pid, how)
    stopping = Worker.objects.filter(pid__in=pids, state="STOPPING")
    eventually(lambda: stopping.count() == 2, within=9, what="both workers to say that they stop")


def ends(fleet: Fleet) -> list[int]:
    return [fleet.processes[queue].wait(40) for queue in BOTH]


def facts(jobs: list[Job]) -> set[tuple[Any, ...]]:
    """State, attempt, retries, deaths and how the attempts ended: those of both workers must be the same."""
    rows = [settled(job) for job in jobs]
    ended = [tuple(job.attempts.order_by("number").values_list("outcome", flat=True)) for job in rows]
    return {(job.state, job.attempt, job.retries, job.deaths, each) for job, each in zip(rows, ended, strict=True)}


def test_a_warm_stop_lets_running_jobs_finish_and_starts_no_other(workers: Fleet) -> None:
    """Scenario 40, SIGTERM."""
    jobs = running(5)
    tell(workers, signal.SIGTERM)
    later = naps(0)
    assert ends(workers) == [0, 0]
    assert facts(jobs) == {("SUCCESS", 1, 0, 0, ())}
    assert not Job.objects.filter(pk__in=[job.pk for job in later]).exclude(state="PENDING", attempt=0).exists()
    hire(workers)
    assert facts(later) == {("SUCCESS", 1, 0, 0, ())}


def test_a_cold_stop_gives_its_jobs_back_uncharged(workers: Fleet) -> None:
    """Scenarios 40 and 54, SIGQUIT: what is running may finish for a while, then the children are ended."""
    jobs, cancelled = running(), running()
    tell(workers, signal.SIGQUIT)
    Job.objects.filter(pk__in=[job.pk for job in cancelled]).ask_running_to_stop()
    ends(workers)
    hire(workers)
    assert facts(jobs) == {("SUCCESS", 2, 0, 0, ("RELEASED",))}
    assert facts(cancelled) == {("REVOKED", 1, 0, 0, ("REVOKED",))}


def test_a_child_that_is_killed_while_its_worker_stops_is_nobodys_death(workers: Fleet) -> None:
    jobs = running()
    tell(workers, signal.SIGTERM)
    for job in jobs:
        os.kill(job.child_pid, signal.SIGKILL)
    ends(workers)
    hire(workers)
    assert facts(jobs) == {("SUCCESS", 2, 0, 0, ("RELEASED",))}


def test_an_impatient_supervisor_three_times_is_no_poison(workers: Fleet) -> None:
    """Scenario 57: TERM, then KILL; once QUIT, then KILL."""
    jobs = naps(60)
    for number, how in enumerate((signal.SIGTERM, signal.SIGQUIT, signal.SIGTERM), start=1):
        for job in jobs:
            started(job, attempt=number)
        if number == 3:
            shorten(jobs)
        tell(workers, how)
        for queue in BOTH:
            workers.kill(queue)
        hire(workers)
    assert facts(jobs) == {("SUCCESS", 4, 0, 0, ("RELEASED",) * 3)}
