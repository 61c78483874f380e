"""Workers that were frozen and thaw: what they bring is fenced, and they end."""

import os
import signal

import psutil
import pytest

from jobs.liveness import EXIT_FENCED
from jobs.models import Job, Worker
from jobs.submission import submit
from tests.fleet import Fleet
from tests.waiting import eventually, settled, started


@pytest.fixture(scope="module", autouse=True)
def _workers(crew: Fleet) -> None:
    crew.worker("whole", queues="high", size=1, include="tests.chaos.inside")
    crew.worker("parent", queues="low", size=1, include="tests.chaos.inside")


def send(pids: list[int], how: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, how)


def is_declared_dead(worker: str) -> bool:
    return Worker.objects.filter(name=f"{worker}@test", state="DEAD").exists()


def test_frozen_workers_lose_their_jobs_and_what_they_bring_back_is_fenced(crew: Fleet) -> None:
    """Scenarios 28 and 30: one worker is frozen with its child; of the other only the parent, and the child goes on."""
    frozen = started(submit("chaos_sleep", {"seconds": 10}, queue="high"))
    zombie = started(submit("chaos_sleep", {"seconds": 10}, queue="low"))
    family = [crew.pid("whole"), *crew.children("whole")]
    zombie_child = crew.children("parent")
    send([*family, crew.pid("parent")], signal.SIGSTOP)
    eventually(lambda: is_declared_dead("whole") and is_declared_dead("parent"), within=40, what="the lease to end")
    crew.worker("second", queues="high,low", size=2, include="tests.chaos.inside")
    started(frozen, attempt=2), started(zombie, attempt=2)

    # The zombie's child ends while its second attempt runs; its parent is frozen still.
    late = eventually(lambda: zombie.attempts.exclude(fenced_at=None).first(), within=40, what="a fenced outcome")
    zombie.refresh_from_db()
    assert (zombie.state, zombie.attempt, late.outcome, late.fenced_outcome) == ("STARTED", 2, "LOST", "SUCCESS")

    send([crew.pid("parent"), *family], signal.SIGCONT)
    assert [crew.processes[name].wait(30) for name in ("whole", "parent")] == [EXIT_FENCED] * 2
    gone = [*family, *zombie_child]
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in gone), within=10, what="the zombies' children to go")

    for job in (frozen, zombie):
        settled(job, within=60)
        assert (job.state, job.attempt, job.result, job.deaths) == ("SUCCESS", 2, 2, 1)
    assert Job.objects.get(pk=zombie.pk).worker_id == Worker.objects.get(name="second@test").pk
