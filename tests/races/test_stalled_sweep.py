"""A database that stalls under the dispatcher silences every worker alike: none of them may be declared dead for it."""

import threading
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.utils import timezone

from jobs import connections, rescue
from jobs.models import Worker
from jobs.rescue import View
from tests.making import make_worker
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("at_work")
LEASE = 3.0


@pytest.fixture(autouse=True)
def _short_lease(settings: Any) -> None:
    settings.LEASE_SECONDS, settings.HEARTBEAT_SECONDS = LEASE, LEASE


def worker_heard_of(ago: float) -> Worker:
    worker = make_worker(id=uuid4(), name="elsewhere", host="elsewhere")
    Worker.objects.filter(pk=worker.pk).update(heartbeat_at=timezone.now() - timedelta(seconds=ago))
    return worker


def state(worker: Worker) -> str:
    return Worker.objects.get(pk=worker.pk).state


def unbroken_view() -> View:
    view = View()

    def is_unbroken() -> bool:
        view.look()
        return view.is_unbroken()

    eventually(is_unbroken, within=3 * LEASE)
    return view


def sweep_in_a_thread(view: View) -> threading.Thread:
    def sweep() -> None:
        rescue.sweep(view)
        connections.close_own()
        connection.close()

    thread = threading.Thread(target=sweep)
    thread.start()
    return thread


def is_kept_waiting() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_locks WHERE relation = 'jobs_worker'::regclass AND NOT granted")
        return cursor.fetchone() is not None


def test_a_stall_while_silence_is_judged_counts_for_nobodys_silence() -> None:
    view, alive, silent = unbroken_view(), worker_heard_of(0.0), worker_heard_of(2 * LEASE)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE jobs_worker IN SHARE MODE")
        sweeping = sweep_in_a_thread(view)
        eventually(is_kept_waiting, within=3 * LEASE)
        cursor.execute("SELECT pg_sleep(%s)", [LEASE])
    sweeping.join()
    assert (state(alive), state(silent)) == ("UP", "DEAD")


def test_a_stall_earlier_in_the_sweep_is_seen_before_anybody_is_judged(settings: Any) -> None:
    view, alive = unbroken_view(), worker_heard_of(0.0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [LEASE * 1.1])
    rescue.sweep(view)
    assert state(alive) == "UP"
