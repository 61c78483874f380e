"""Redis that is away, hangs, forgets, cuts its connections or hands tickets out twice, under real workers."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from jobs import tickets
from jobs.models import Attempt, Job, Worker
from jobs.submission import submit
from tests.chaos import outage_tasks
from tests.site import Site, finished, in_state, many, reread, seconds, started, summary
from tests.waiting import eventually

TASKS = outage_tasks.__name__
ONCE = {("SUCCESS", 1)}


@pytest.fixture(scope="module", autouse=True)
def _running(site: Site) -> None:
    site.fleet.dispatcher()
    site.fleet.worker("w", queues="high,default,solo", size=4, include=TASKS)


@pytest.fixture(autouse=True)
def _same_worker(site: Site) -> Iterator[None]:
    """Whatever happens to Redis, the worker of this module is never replaced and nobody is taken for dead."""
    pid, children = site.fleet.pid("w"), site.fleet.children("w")
    yield
    assert site.fleet.processes["w"].poll() is None
    assert (site.fleet.pid("w"), site.fleet.children("w")) == (pid, children)
    assert Worker.objects.get(pid=pid).state == "UP"
    assert not Attempt.objects.filter(outcome="LOST", worker_name="w@test").exists()


@pytest.fixture
def early(site: Site) -> Iterator[None]:
    """Beside it a worker of the queue `low` that does without the second net, late acknowledgement."""
    before = dict(site.fleet.environment)
    site.fleet.environment["TASK_ACKS_LATE"] = "0"
    site.fleet.worker("early", queues="low", size=4, include=TASKS)
    site.fleet.environment = before
    yield
    assert site.fleet.processes["early"].poll() is None
    assert not Attempt.objects.filter(outcome="LOST", worker_name="early@test").exists()
    site.fleet.kill("early")


def on_both(count: int, task: str, payload: dict[str, object]) -> list[Job]:
    return [submit(task, payload, queue=queue) for _ in range(count) for queue in ("default", "low")]


def test_tickets_are_acknowledged_late_or_early_as_the_worker_was_told(site: Site, early: None) -> None:
    """Or else nothing here would have shown anything about the second net."""
    soon = submit("outage_nap", {"seconds": 8}, queue="low")
    started([soon])
    eventually(lambda: not site.redis.hlen("unacked"), within=8, what="the early acknowledgement")
    assert in_state("STARTED", [soon]) == 1
    assert finished([soon], within=30)
    late = submit("outage_nap", {"seconds": 5})
    started([late])
    unacknowledged = int(os.environ.get("TASK_ACKS_LATE", "1"))
    eventually(lambda: site.redis.hlen("unacked") == unacknowledged, within=4, what="as this run says")
    assert in_state("STARTED", [late]) == 1
    assert finished([late], within=30)


def test_submits_stay_quick_while_redis_is_down_and_all_run_when_it_is_back(site: Site) -> None:
    """Scenario 8."""
    with site.no_redis():
        calls = [timed(lambda: submit("flaky", {"failures": 0})) for _ in range(20)]
        tickets._publisher.cache_clear()
        calls += [timed(lambda: submit("flaky", {"failures": 0}))]
    back = time.monotonic()
    costs = sorted(cost for _, cost in calls)
    assert costs[-3] < 0.2
    assert costs[-1] < 0.6, "slack for a busy machine"
    assert summary(finished([job for job, _ in calls], within=30)) == ONCE
    assert seconds(back) < 30


def test_submits_wait_a_second_once_for_a_redis_that_hangs_and_no_longer(site: Site) -> None:
    """Scenario 9."""
    tickets._publisher.cache_clear()
    site.valkey.pause()
    try:
        first, cost = timed(lambda: submit("flaky", {"failures": 0}))
        assert cost < 1
        jobs = [first]
        deadline = time.monotonic() + 2.5 * tickets.QUIET_SECONDS
        while time.monotonic() < deadline:
            job, cost = timed(lambda: submit("flaky", {"failures": 0}))
            assert cost < 0.15, "one probe's 40 ms, and slack for a busy machine"
            jobs.append(job)
            time.sleep(0.1)
    finally:
        site.valkey.resume()
    assert summary(finished(jobs, within=45)) == ONCE


def test_busy_workers_outlive_a_redis_that_comes_back_empty(site: Site, early: None) -> None:
    """Scenario 11."""
    running = on_both(4, "outage_nap", {"seconds": 8})
    started(running)
    waiting = [*many(20), *many(20, queue="low")]
    site.valkey.settings["appendonly"] = "no"  # type: ignore[index]
    with site.no_redis(crash=True):
        down = time.monotonic()
        eventually(lambda: seconds(down) > 3, within=10)
    site.valkey.settings["appendonly"] = "yes"  # type: ignore[index]
    assert site.waiting() <= 20
    assert site.waiting("low") <= 20
    assert summary(finished([*running, *waiting], within=60)) == ONCE


def test_cut_connections_start_no_running_job_a_second_time(site: Site, early: None) -> None:
    """Scenario 12."""
    running = on_both(4, "outage_nap", {"seconds": 3})
    waiting = [*many(20), *many(20, queue="low")]
    started(running)
    hand_out_again(site)
    for _ in range(3):
        site.redis.execute_command("CLIENT", "KILL", "TYPE", "normal")
        eventually(lambda: site.redis.info("clients")["blocked_clients"] == 0, within=5)  # type: ignore[index]
    site.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    assert summary(finished([*running, *waiting], within=30)) == ONCE
    # kombu loses an acknowledgement whose connection is cut, and what would put it right may be cut as well.
    hand_out_again(site)
    eventually(lambda: not site.redis.hlen("unacked"), within=30, what="every ticket to be acknowledged")
    assert summary(reread([*running, *waiting])) == ONCE


def test_a_dead_worker_is_noticed_while_redis_hangs(site: Site) -> None:
    """Scenarios 9 and 28 at once: looking for lost tickets must not blind the dispatcher's view of the workers."""
    frozen = site.fleet.worker("frozen", queues="low", include=TASKS)
    job = submit("outage_nap", {"seconds": 3}, queue="low")
    started([job])
    stop_all(site.fleet.pid("frozen"))
    site.valkey.pause()
    try:
        eventually(lambda: Worker.objects.get(pk=frozen.pk).state == "DEAD", within=36, what="it to be declared dead")
        eventually(lambda: Job.objects.get(pk=job.pk).deaths == 1, within=10, what="its job to be taken back")
    finally:
        site.valkey.resume()
        site.fleet.kill("frozen")
    site.fleet.worker("thawed", queues="low", include=TASKS)
    [job] = finished([job], within=45)
    assert (job.state, job.attempt) == ("SUCCESS", 2)
    site.fleet.kill("thawed")


def test_a_full_redis_is_an_outage_and_nobodys_death(site: Site) -> None:
    """Not in the list: out of memory Redis refuses tickets and kombu's bookkeeping, and then has room again."""
    running = [submit("outage_nap", {"seconds": 4}) for _ in range(2)]
    waiting = many(10)
    started(running)
    site.redis.config_set("maxmemory", "1")
    try:
        jobs, cost = timed(lambda: many(20))
        assert cost < 1
        full = time.monotonic()
        eventually(lambda: seconds(full) > 3, within=10)
    finally:
        site.redis.config_set("maxmemory", "0")
    assert summary(finished([*running, *waiting, *jobs], within=60)) == ONCE


def test_a_ticket_handed_out_again_under_a_running_job_starts_nothing(site: Site) -> None:
    """Scenarios 22 and 23: the visibility timeout is far shorter than the job, and than the wait for a retry."""
    site.fleet.environment["CHAOS_VISIBILITY_TIMEOUT"] = "3"
    site.fleet.worker("forgetful", queues="low", include=TASKS)
    del site.fleet.environment["CHAOS_VISIBILITY_TIMEOUT"]
    long = submit("outage_nap", {"seconds": 8}, queue="low")
    retried = submit("outage_come_back", {"seconds": 6}, queue="low")
    eventually(lambda: Job.objects.get(pk=retried.pk).state == "RETRY", within=20, what="the retry to be recorded")
    eventually(lambda: site.redis.hlen("unacked") <= 1, within=10, what="no ticket to wait with the retry")
    [long] = finished([long], within=45)
    assert (long.state, long.attempt) == ("SUCCESS", 1)
    [retried] = finished([retried], within=45)
    first = retried.attempts.get()
    assert (retried.attempt, retried.started_at is not None) == (2, True)
    assert 6 <= (retried.started_at - first.ended_at).total_seconds() < 10  # type: ignore[operator]
    eventually(lambda: not site.redis.hlen("unacked"), within=30, what="every ticket to be acknowledged")
    assert summary(reread([long, retried])) == {("SUCCESS", 1), ("SUCCESS", 2)}
    site.fleet.kill("forgetful")


def hand_out_again(site: Site) -> None:
    """What kombu does with unacknowledged messages when the visibility timeout is over."""
    for tag, note in site.redis.hgetall("unacked").items():  # type: ignore[union-attr]
        message, _, queue = json.loads(note)
        site.redis.pipeline().hdel("unacked", tag).zrem("unacked_index", tag).rpush(
            queue, json.dumps(message)
        ).execute()


def timed(work: Callable[[], object]) -> tuple[object, float]:
    began = time.monotonic()
    return work(), time.monotonic() - began


def stop_all(pid: int) -> None:
    """Freeze a worker with its children."""
    for each in [psutil.Process(pid), *psutil.Process(pid).children()]:
        os.kill(each.pid, signal.SIGSTOP)
