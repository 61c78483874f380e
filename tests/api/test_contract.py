"""The contract existing clients rely on: paths and field names of the table in docs/api.md."""

import pytest

from jobs.models import Job
from tests.api.calling import Api, is_problem
from tests.waiting import eventually, settled

EMAIL = {"to": "a@example.com", "subject": "Hi", "body": "secret"}


def test_a_submit_says_where_the_job_went(api: Api) -> None:
    answer = api.submit("send_email", EMAIL, priority="high")
    body = answer.json()
    assert answer.status_code == 202
    assert body | {"task_id": "", "replayed": False, "result": None} == {
        "task_id": "",
        "status": "PENDING",
        "priority": "high",
        "message": "Task 'send_email' queued on 'high' queue.",
        "replayed": False,
        "result": None,
    }
    assert answer.headers["location"] == f"/api/tasks/{body['task_id']}"
    assert api.get(api.address + answer.headers["location"]).json()["task_id"] == body["task_id"]


@pytest.mark.parametrize("priority", ["high", "default", "low"])
def test_a_priority_is_a_queue(api: Api, priority: str) -> None:
    assert api.submit(priority=priority).json()["priority"] == priority


def test_without_a_priority_a_job_goes_to_its_tasks_own_queue(api: Api) -> None:
    assert api.submit("send_email", EMAIL).json()["priority"] == "high"


def test_a_status_says_everything_about_a_job(api: Api) -> None:
    task_id = api.submitted("flaky", {"failures": 1}, idempotency_key="k-status", tags=["x"])
    body = api.followed(task_id)
    assert {name: body[name] for name in ("task_id", "status", "error", "traceback", "task_type", "queue")} == {
        "task_id": task_id,
        "status": "SUCCESS",
        "error": None,
        "traceback": None,
        "task_type": "flaky",
        "queue": "default",
    }
    assert body["result"] == {"status": "done", "attempt": 2}
    assert (body["attempt"], body["retries"], body["replayed"], body["idempotency_key"]) == (2, 1, 0, "k-status")
    assert body["worker"] == "w@test" and body["progress"] is None and body["tags"] == ["x"]
    assert body["created_at"] <= body["run_at"] <= body["started_at"] <= body["finished_at"]


def test_a_failed_job_shows_its_error_and_traceback(api: Api) -> None:
    task_id = api.submitted("always_fails", {"message": "no luck"})
    body = eventually(lambda: _with_error(api, task_id), within=30, what="a first failure")
    assert (body["status"], body["error"], body["error_code"]) == ("RETRY", "no luck", "RuntimeError")
    assert "RuntimeError: no luck" in body["traceback"]
    [attempt] = api.get(f"tasks/{task_id}/attempts").json()
    assert (attempt["number"], attempt["outcome"], attempt["error"]) == (1, "RETRY", "no luck")


@pytest.mark.parametrize("task_id", ["01a1f7e1-947b-78c6-938a-6acbad55160e", "no-such-job", "1"])
def test_an_unknown_id_is_not_found_and_never_pending(api: Api, task_id: str) -> None:
    for path in ("", "/attempts", "/why", "/wait"):
        assert is_problem(api.get(f"tasks/{task_id}{path}"), 404, "not-found")
    assert is_problem(api.delete(f"tasks/{task_id}/cancel"), 404, "not-found")


def test_a_waiting_job_is_cancelled_at_once(api: Api) -> None:
    task_id = api.waiting()
    answer = api.delete(f"tasks/{task_id}/cancel")
    assert (answer.status_code, answer.json()) == (200, {"task_id": task_id, "status": "revoked"})
    assert api.get(f"tasks/{task_id}").json()["status"] == "REVOKED"


def test_a_running_job_is_revoked_once_it_stops(api: Api) -> None:
    task_id = api.submitted("slow", {"seconds": 60})
    eventually(lambda: api.get(f"tasks/{task_id}").json()["status"] == "STARTED", within=30)
    answer = api.delete(f"tasks/{task_id}/cancel")
    assert (answer.status_code, answer.json()) == (202, {"task_id": task_id, "status": "revoked"})
    assert api.followed(task_id, timeout=30)["status"] == "REVOKED"


def test_a_running_job_shows_its_progress_and_counts_as_running(api: Api) -> None:
    task_id = api.submitted("slow", {"seconds": 5})
    progress = eventually(lambda: api.get(f"tasks/{task_id}").json()["progress"], within=30, what="progress")
    assert (progress["total"], progress["note"]) == (5, "waiting") and 0 <= progress["done"] < 5
    assert api.get("queues/default").json()["running"] == 1
    api.delete(f"tasks/{task_id}/cancel")
    assert api.followed(task_id, timeout=30)["progress"]["total"] == 5
    eventually(lambda: api.get("queues/default").json()["running"] == 0, within=30, what="nothing to run")


def test_a_callback_url_is_kept(api: Api) -> None:
    url = "https://example.com/hooks/job?x=1"
    assert api.get(f"tasks/{api.waiting(callback_url=url)}").json()["callback_url"] == url


def test_a_finished_job_cannot_be_cancelled(api: Api) -> None:
    task_id = api.submitted()
    settled(Job.objects.get(pk=task_id))
    assert is_problem(api.delete(f"tasks/{task_id}/cancel"), 409, "conflict")


def test_the_statistics_have_the_agreed_names(api: Api) -> None:
    body = api.get("workers/stats").json()
    names = ("queued_high", "queued_default", "queued_low", "active_tasks", "failed_tasks", "success_tasks")
    assert set(body) >= {*names, "workers_online"}
    assert body["workers_online"] == 1 and all(isinstance(body[name], int) for name in names)


def test_health_is_200_while_every_part_works(api: Api) -> None:
    answer = eventually(lambda: _healthy(api), within=30, what="every part to work")
    assert set(answer["parts"]) == {"database", "migrations", "broker", "workers", "dispatcher", "beat"}


def _with_error(api: Api, task_id: str) -> dict:
    body = api.get(f"tasks/{task_id}").json()
    return body if body["error"] else {}


def _healthy(api: Api) -> dict:
    answer = api.get("workers/health")
    return answer.json() if answer.status_code == 200 else {}
