from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone

from api.models import ApiToken
from jobs.ids import uuid7
from jobs.models import Job
from jobs.pausing import pause
from monitoring import rollups
from monitoring.models import RollupProgress
from tests.making import force_state, make_job, make_worker
from tests.monitoring.making import make_attempt, make_finished

pytestmark = [pytest.mark.django_db, pytest.mark.filterwarnings("ignore:No directory at")]
FIELDS = {"queued_high", "queued_default", "queued_low", "active_tasks", "failed_tasks", "success_tasks"}


def minutes_ago(minutes: float) -> datetime:
    return timezone.now() - timedelta(minutes=minutes)


def make_failed(**fields: Any) -> Job:
    job = make_finished(state="FAILURE", **fields)
    make_attempt(job, 1, "FAILURE", at=fields["at"], delay=None)
    return job


def make_running(**fields: Any) -> Job:
    job = make_job(**fields)
    force_state(job, "STARTED", worker_id=uuid7(), claim_token=uuid7(), started_at=timezone.now())
    return job


@pytest.fixture
def reader(client: Client) -> Any:
    """Calls the API with a token of the scopes it is given."""
    owner = get_user_model().objects.create_user("owner")

    def get(path: str, *, scopes: list[str] | None = None) -> Any:
        _, token = ApiToken.issue(name="t", owner=owner, scopes=["read"] if scopes is None else scopes)
        return client.get(path, headers={"Authorization": f"Bearer {token}"})

    return get


def test_worker_stats_count_what_waits_runs_and_ended(reader: Any) -> None:
    make_job(queue="high")
    make_job(queue="high", delay=600)
    make_job()
    make_job()
    make_running(queue="low")
    make_worker(id=uuid7())
    make_worker(id=uuid7(), state="STOPPING")
    make_worker(id=uuid7(), heartbeat_at=minutes_ago(5))
    make_worker(id=uuid7(), kind="dispatcher")
    make_finished(at=minutes_ago(1))
    make_failed(at=minutes_ago(1))
    assert reader("/api/workers/stats").json() == {
        "queued_high": 1,
        "queued_default": 2,
        "queued_low": 0,
        "active_tasks": 1,
        "failed_tasks": 1,
        "success_tasks": 1,
        "workers_online": 1,
    }


def test_failed_and_succeeded_are_the_same_before_and_after_the_rollups_are_built(reader: Any) -> None:
    for minutes in (0.2, 3, 30, 90):
        make_finished(at=minutes_ago(minutes))
        make_failed(at=minutes_ago(minutes))

    def seen() -> tuple[int, int]:
        stats = reader("/api/workers/stats").json()
        return stats["success_tasks"], stats["failed_tasks"]

    assert seen() == (4, 4)
    rollups.build()
    assert RollupProgress.objects.get().succeeded == 2
    assert seen() == (4, 4)


def test_queues_tell_load_pause_and_the_last_hour(reader: Any) -> None:
    Job.objects.filter(pk=make_job().pk).update(run_at=minutes_ago(2))
    pause("default", actor="ops", reason="upstream is down")
    make_finished(at=minutes_ago(30), wait=0.4, run=30)
    make_finished(at=minutes_ago(0.1), wait=0.4, run=30)
    make_failed(at=minutes_ago(20))
    make_finished(at=minutes_ago(70))
    rollups.build()
    found = reader("/api/queues").json()
    assert [queue["name"] for queue in found] == ["high", "default", "low", "solo", "system"]
    queue = found[1]
    assert 120 <= queue.pop("oldest_age_seconds") < 180
    # Two of three took 30 s to run and 0.4 s to wait; buckets 30-60 s and 250-500 ms.
    assert queue == {
        "name": "default",
        "depth": 1,
        "running": 0,
        "paused": True,
        "paused_by": "ops",
        "pause_reason": "upstream is down",
        "succeeded": 2,
        "failed": 1,
        "per_minute": 0.05,
        "wait_p50_ms": pytest.approx(437.5),
        "wait_p95_ms": pytest.approx(4625),
        "run_p50_ms": pytest.approx(37_500),
        "run_p95_ms": pytest.approx(57_750),
    }
    assert found[0]["oldest_age_seconds"] is None
    assert found[0]["run_p95_ms"] is None


@pytest.mark.parametrize("path", ["/api/workers/stats", "/api/queues"])
def test_the_number_of_queries_does_not_grow_with_the_jobs(
    reader: Any, path: str, django_assert_max_num_queries: Any
) -> None:
    for minutes in range(40):
        make_finished(at=minutes_ago(minutes), queue=("high", "default", "low")[minutes % 3])
        make_job(queue=("high", "default", "low")[minutes % 3])
    rollups.build()
    # Of these, four are the token's.
    with django_assert_max_num_queries(10):
        reader(path)


@pytest.mark.parametrize("path", ["/api/workers/stats", "/api/queues"])
def test_statistics_need_the_scope_read_or_an_admin_session(reader: Any, path: str) -> None:
    assert Client().get(path).status_code == 401
    assert reader(path, scopes=["submit"]).status_code == 403
    assert reader(path).status_code == 200
    staff = Client()
    staff.force_login(get_user_model().objects.create_superuser("staff"))
    assert staff.get(path).status_code == 200
    assert set(staff.get("/api/workers/stats").json()) == FIELDS | {"workers_online"}
