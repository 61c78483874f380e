"""`manage.py load_test` and `seed_history`: what they write, and what their last lines and exit codes say."""

import threading
from collections import Counter
from datetime import timedelta

from celery import current_app
from django.db import connection
from django.utils import timezone

from jobs import batching, connections
from jobs.models import Job
from tests.commands.running import manage
from tests.making import make_job
from tests.waiting import eventually


def work_off(done: threading.Event) -> None:
    """A worker in a thread, for jobs that are submitted by another process."""
    task = current_app.tasks["process_data"]
    while not done.is_set():
        for queue in ("high", "default", "low"):
            batching.answer(task, queue)
        done.wait(0.05)
    connections.close_own()
    connection.close()


def test_a_load_test_accounts_for_every_job() -> None:
    done = threading.Event()
    worker = threading.Thread(target=work_off, args=(done,))
    worker.start()
    try:
        ran = manage("load_test", "--jobs", "50", "--task", "process_data", "--payload", '{"records": []}')
    finally:
        done.set()
        worker.join()
    assert ran.returncode == 0, ran.stderr
    for line in ("high          10 submitted", "default       30 submitted", "low           10 submitted"):
        assert line in ran.stdout
    for line in ("dead letters = 0", "lost = 0", "duplicates = 0", "wait  p50", "run   p50"):
        assert line in ran.stdout
    assert Counter(Job.objects.values_list("queue", flat=True)) == {"high": 10, "default": 30, "low": 10}


def test_jobs_that_do_not_finish_in_time_are_called_lost() -> None:
    ran = manage(
        "load_test", "--jobs", "10", "--task", "process_data", "--payload", '{"records": []}', "--timeout", "1"
    )
    assert ran.returncode == 1
    assert "lost = 10" in ran.stdout
    assert "10 lost, 0 duplicates" in ran.stderr


def test_history_is_seeded_as_finished_jobs_beside_those_that_wait() -> None:
    waiting = make_job()
    ran = manage("seed_history", "--rows", "1000")
    assert ran.returncode == 0, ran.stderr
    assert Counter(Job.objects.exclude(pk=waiting.pk).values_list("state", flat=True)) == {
        "SUCCESS": 990,
        "REVOKED": 10,
    }
    assert len({job.id.version for job in Job.objects.all()}) == 1
    oldest, newest = Job.objects.earliest("created_at"), Job.objects.exclude(pk=waiting.pk).latest("created_at")
    assert newest.created_at - oldest.created_at > timedelta(days=25)
    assert newest.finished_at < timezone.now()
    eventually(lambda: Job.objects.order_by("-id").first().pk == waiting.pk, within=1)
