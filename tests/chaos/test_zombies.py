"""Workers that were frozen and thaw: what they bring is fenced, and they end.

One is frozen whole; of two others only the parent, and the child goes on: one as shipped, one without late ack.
"""

import os
import signal

import psutil
import pytest

from jobs.liveness import EXIT_FENCED
from jobs.models import Worker
from jobs.submission import submit
from tests.chaos import inside
from tests.fleet import Fleet
from tests.waiting import eventually, settled, started

INCLUDE = inside.__name__
ZOMBIES = {"parent": "low", "early": "default"}


@pytest.fixture(scope="module", autouse=True)
def _workers(crew: Fleet) -> None:
    before = dict(crew.environment)
    for name, queue in {"whole": "high", **ZOMBIES}.items():
        crew.environment |= {"TASK_ACKS_LATE": "0"} if name == "early" else {}
        crew.launch_worker(name, queues=queue, size=1, include=INCLUDE)
    crew.environment = before
    for name in ("whole", *ZOMBIES):
        crew.enlisted(name)


def send(pids: list[int], how: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, how)


def is_declared_dead(worker: str) -> bool:
    return Worker.objects.filter(name=f"{worker}@test", state="DEAD").exists()


def test_frozen_workers_lose_their_jobs_and_what_they_bring_back_is_fenced(crew: Fleet) -> None:
    """Scenarios 28 and 30."""
    frozen = started(submit("chaos_sleep", {"seconds": 10}, queue="high"))
    zombies = [started(submit("chaos_sleep", {"seconds": 10}, queue=queue)) for queue in ZOMBIES.values()]
    family = [crew.pid("whole"), *crew.children("whole")]
    zombie_parents = [crew.pid(name) for name in ZOMBIES]
    zombie_children = [pid for name in ZOMBIES for pid in crew.children(name)]
    send([*family, *zombie_parents], signal.SIGSTOP)
    eventually(lambda: all(map(is_declared_dead, ("whole", *ZOMBIES))), within=40, what="the lease to end")
    crew.worker("second", queues="high,low,default", size=3, include=INCLUDE)
    for job in (frozen, *zombies):
        started(job, attempt=2)

    # The zombies' children end while the second attempts run; their parents are frozen still.
    for zombie in zombies:
        late = eventually(zombie.attempts.exclude(fenced_at=None).first, within=40, what="a fenced outcome")
        zombie.refresh_from_db()
        assert (zombie.state, zombie.attempt, late.outcome, late.fenced_outcome) == ("STARTED", 2, "LOST", "SUCCESS")

    send([*zombie_parents, *family], signal.SIGCONT)
    assert [crew.processes[name].wait(30) for name in ("whole", *ZOMBIES)] == [EXIT_FENCED] * 3
    gone = [*family, *zombie_children]
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in gone), within=10, what="the zombies' children to go")

    second = Worker.objects.get(name="second@test").pk
    for job in (frozen, *zombies):
        settled(job, within=60)
        assert (job.state, job.attempt, job.result, job.deaths) == ("SUCCESS", 2, 2, 1)
        assert job.worker_id == second
