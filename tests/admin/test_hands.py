"""What the panel asks of worker processes, asked of real ones."""

from typing import Any

from celery import current_app
from django.test import Client

from jobs.models import Event, Job, Worker
from jobs.submission import submit
from monitoring.crew import crew
from tests.admin.acting import answer, choose, list_of, messages_of, text_of
from tests.fleet import Fleet
from tests.waiting import eventually, settled, started

SLOW = {"seconds": 3}


def pool_of(worker: Worker) -> list[int]:
    """The processes of its pool, as the worker itself reports them."""
    said: Any = current_app.control.inspect(destination=[worker.name], timeout=5).stats() or {}
    return said.get(worker.name, {}).get("pool", {}).get("processes", [])


def size_of(worker: Worker) -> int:
    worker.refresh_from_db()
    return worker.concurrency


def test_a_worker_grows_and_shrinks_by_one_process(boss: Client, fleet: Fleet) -> None:
    worker = fleet.worker(size=2)
    eventually(lambda: len(pool_of(worker)) == 2, within=60, what="the worker to listen")
    assert messages_of(answer(boss, "grow", [worker], reason="")) == ["One process more: 1 worker."]
    eventually(lambda: len(pool_of(worker)) == 3, within=30, what="a third process")
    eventually(lambda: size_of(worker) == 3, within=15, what="the row to say so")
    assert len(fleet.children("w")) == 3
    for left in (2, 1):
        answer(boss, "shrink", [worker], reason="night")
        eventually(lambda left=left: len(pool_of(worker)) == left, within=30, what=f"{left} processes to be left")
        eventually(lambda left=left: size_of(worker) == left, within=15, what="the row to say so")
    assert "Left alone: it has one process 1" in text_of(choose(boss, "shrink", [worker]))
    acts = Event.objects.filter(actor="boss", details={"worker": worker.name}).order_by("pk")
    assert list(acts.values_list("verb", "reason")) == [
        ("worker grown", ""), ("worker shrunk", "night"), ("worker shrunk", "night"),
    ]  # fmt: skip


def test_a_worker_told_to_shut_down_finishes_what_it_runs_and_takes_nothing_new(
    boss: Client, fleet: Fleet, in_the_way: Any
) -> None:
    worker = fleet.worker(size=1)
    eventually(lambda: len(pool_of(worker)) == 1, within=60, what="the worker to listen")
    running = started(submit("slow", SLOW))
    lock = in_the_way(Job, running.pk)
    assert messages_of(answer(boss, "stop", [worker], "deploy")) == ["Told to shut down: 1 worker."]
    eventually(lambda: Worker.objects.get(pk=worker.pk).state == "STOPPING", within=15, what="the row to say so")
    late = submit("flaky", {"failures": 0})
    assert fleet.processes["w"].poll() is None, "it waits for its job, which cannot end"
    assert Job.objects.get(pk=running.pk).state == "STARTED"
    lock.rollback()
    assert fleet.processes["w"].wait(timeout=60) == 0
    assert settled(running).state == "SUCCESS"
    assert (running.attempt, Job.objects.get(pk=late.pk).state) == (1, "PENDING")
    assert Worker.objects.get(pk=worker.pk).state == "DEAD"
    assert not crew().silent, "who was told to leave is not missed"
    assert Event.objects.filter(verb="worker told to stop", actor="boss", reason="deploy").count() == 1
    assert "Left alone: it is dead 1" in text_of(choose(boss, "grow", [worker]))


def test_a_worker_that_does_not_answer_is_said_not_to_have(boss: Client) -> None:
    silent = Worker.objects.create(kind="worker", name="silent@nowhere", host="nowhere", pid=1, concurrency=2)
    [told] = messages_of(answer(boss, "grow", [silent], reason=""))
    assert told.endswith("silent@nowhere has not answered yet: its number of processes will tell.")
    assert not Event.objects.exists()


def test_only_who_may_control_workers_sees_the_buttons(person: Any) -> None:
    worker = Worker.objects.create(kind="worker", name="w@here", host="here", pid=1, concurrency=2)
    viewer, operator = person("jobs.view_worker"), person("jobs.view_worker", "jobs.control_worker")
    assert "Shut down" not in text_of(viewer.get(list_of(Worker)))
    assert "Grow… Shrink… Shut down…" in text_of(operator.get(list_of(Worker)))
    answer(viewer, "stop", [worker])
    assert not Event.objects.exists()
