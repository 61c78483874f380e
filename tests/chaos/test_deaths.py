"""Processes killed under their jobs: each job is charged its own deaths, nobody else's, and all of them finish.

Everything happens twice, side by side: on a worker as shipped (queue `default`), and on one with the second
net, late acknowledgement, taken away (queue `low`).
"""

import os
import signal
from datetime import timedelta
from typing import Any

import psutil
import pytest

from deadletters.models import DeadLetter
from jobs.models import Job, Worker
from jobs.submission import submit
from tests.chaos import inside, oracle
from tests.fleet import Fleet
from tests.site import reread, summary
from tests.waiting import eventually, settled, started

LATE, EARLY = "default", "low"
SIZES = {LATE: 4, EARLY: 4, "solo": 1, "high": 2}


@pytest.fixture(scope="module", autouse=True)
def _workers(crew: Fleet) -> None:
    hire(crew, *SIZES)


def hire(crew: Fleet, *queues: str) -> None:
    """A worker per queue; that of `high` has a new child for every job."""
    for queue in queues:
        crew.environment["TASK_ACKS_LATE"] = str(int(queue != EARLY))
        arguments = ["--max-tasks-per-child", "1"] if queue == "high" else []
        crew.launch_worker(
            queue, queues=queue, size=SIZES[queue], include="tests.chaos.inside", arguments=arguments
        )  # fmt: skip
    for queue in queues:
        crew.enlisted(queue)


def revive(crew: Fleet) -> None:
    """What a supervisor does."""
    hire(crew, *(queue for queue in SIZES if crew.processes[queue].poll() is not None))


def on_both(count: int, task: str, payload: dict[str, Any]) -> list[Job]:
    """So many jobs for each of the two workers."""
    return [submit(task, payload, queue=queue) for _ in range(count) for queue in (LATE, EARLY)]


def naps(count: int, seconds: float) -> list[Job]:
    return on_both(count, "chaos_sleep", {"seconds": seconds})


def all_settled(jobs: list[Job], within: float = 60) -> list[Job]:
    return [settled(job, within=within) for job in jobs]


def facts(jobs: list[Job]) -> set[tuple[Any, ...]]:
    """State, attempt, retries, deaths and effects: those of both workers must be the same."""
    return {(job.state, job.attempt, job.retries, job.deaths, oracle.effects(job)) for job in all_settled(jobs)}


def test_a_killed_child_costs_its_job_an_attempt_and_its_neighbours_nothing() -> None:
    """Scenario 1."""
    jobs = [started(job) for job in naps(3, 5)]
    victims, neighbours = jobs[:2], jobs[2:]
    for job in victims:
        os.kill(job.child_pid, signal.SIGKILL)
    for job in victims:
        lost = eventually(lambda job=job: job.attempts.first(), within=18, what="the death to be recorded")
        assert (lost.outcome, lost.signal) == ("LOST", signal.SIGKILL)
    assert facts(victims) == {("SUCCESS", 2, 0, 1, 0)}
    assert facts(neighbours) == {("SUCCESS", 1, 0, 0, 0)}


def test_a_process_that_dies_right_after_its_claim_is_found() -> None:
    """Scenario 18."""
    jobs = on_both(1, "chaos_die", {"place": inside.AFTER_CLAIM})
    assert facts(jobs) == {("SUCCESS", 2, 0, 1, 1)}
    assert {(lost.outcome, lost.exit_code) for job in jobs for lost in job.attempts.all()} == {("LOST", inside.EXIT)}


def test_a_process_that_dies_between_body_and_settlement_runs_the_body_again_under_the_same_key() -> None:
    """Scenario 19."""
    assert facts(on_both(1, "chaos_die", {"place": inside.BEFORE_SETTLING})) == {("SUCCESS", 2, 0, 1, 2)}


def test_a_process_that_dies_after_its_settlement_costs_nothing() -> None:
    """Scenario 20."""
    jobs = on_both(1, "chaos_die", {"place": inside.AFTER_SETTLING})
    assert facts(jobs) == {("SUCCESS", 1, 0, 0, 1)}
    # By the time every slot has run another job, the deaths have been recorded and nothing came of them.
    assert facts(naps(8, 0.5)) == {("SUCCESS", 1, 0, 0, 0)}
    assert facts(reread(jobs)) == {("SUCCESS", 1, 0, 0, 1)}
    assert {job.dispatch_no for job in reread(jobs)} == {1}


def test_an_attempt_that_died_settled_does_not_charge_the_next_one_on_the_same_worker() -> None:
    """Scenario 48."""
    jobs = on_both(1, "chaos_again", {"place": inside.WHEN_NEXT_RUNS, "seconds": 3})
    assert facts(jobs) == {("SUCCESS", 2, 1, 0, 0)}


def test_poison_becomes_a_letter_and_delays_nobody() -> None:
    """Scenario 25."""
    poison, good = on_both(1, "chaos_exit", {"code": 9}), naps(25, 0.1)
    assert facts(good) == {("SUCCESS", 1, 0, 0, 0)}
    assert facts(poison) == {("FAILURE", 3, 0, 3, 0)}
    letters = DeadLetter.objects.filter(job__in=poison)
    assert {(each.cause, each.exit_code, each.worker_name) for each in letters} == {("POISON", 9, "solo@test")}
    assert len(letters) == 2


def test_recycled_children_are_nobodys_death() -> None:
    """Children that end after every job, as max_tasks_per_child has them do."""
    jobs = all_settled([submit("chaos_sleep", {"seconds": 0.02}, queue="high") for _ in range(10)])
    assert summary(jobs) == {("SUCCESS", 1)}
    assert len({job.child_pid for job in jobs}) == 10


def test_killed_workers_cost_running_jobs_an_attempt_and_waiting_ones_nothing(crew: Fleet) -> None:
    """Scenarios 2, 3 and 24: of one worker the parent is killed, of the other every process at once."""
    retrying = on_both(1, "chaos_again", {"countdown": 6})
    eventually(lambda: {job.state for job in reread(retrying)} == {"RETRY"}, within=15, what="both to wait for a retry")
    running = [started(job) for job in naps(4, 3)]
    waiting = naps(10, 0.05)
    children = crew.children(LATE)
    for pid in [crew.pid(LATE), crew.pid(EARLY), *crew.children(EARLY)]:
        os.kill(pid, signal.SIGKILL)
    for queue in (LATE, EARLY):
        crew.processes[queue].wait(30)
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in children), within=3, what="orphans to go")
    revive(crew)
    assert facts(running) == {("SUCCESS", 2, 0, 1, 0)}
    assert facts(waiting) == {("SUCCESS", 1, 0, 0, 0)}
    assert sum(job.dispatch_no for job in reread(waiting)) <= 2 * len(waiting)
    assert facts(retrying) == {("SUCCESS", 2, 1, 0, 0)}
    for job in reread(retrying):
        ready = max(job.run_at, Worker.objects.filter(name=f"{job.queue}@test").latest("started_at").started_at)
        assert job.started_at - job.attempts.get().ended_at >= timedelta(seconds=6)
        assert job.started_at - ready <= timedelta(seconds=9)


def test_poison_that_takes_the_whole_worker_down_dies_alone(crew: Fleet) -> None:
    """Scenario 26."""
    innocents = [started(submit("chaos_sleep", {"seconds": 4})) for _ in range(3)]
    poison = submit("chaos_regicide")

    def is_over() -> bool:
        revive(crew)
        poison.refresh_from_db()
        return poison.is_final

    eventually(is_over, within=120, what="poison to be given up")
    assert (poison.state, poison.deaths) == ("FAILURE", 3)
    letter = DeadLetter.objects.get(job=poison)
    assert (letter.cause, letter.worker_name) == ("POISON", "solo@test")
    revive(crew)
    assert {job.state for job in all_settled(innocents)} == {"SUCCESS"}
