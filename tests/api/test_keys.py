"""One key makes one job, whoever sends it how often."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.db import transaction

from jobs.models import Job
from jobs.submission import submit
from tests.api.calling import Api, is_problem, person, token

PROGRESS = ("status", "result", "replayed")


def test_a_hundred_concurrent_submits_of_one_key_make_one_job(web: str, secret: str) -> None:
    """Over real HTTP: one job, and every answer either the same or 409 while the first is open.

    Only the job's progress, and whether it is the first answer, may differ between them.
    """
    clients = [Api(web, secret) for _ in range(100)]
    start = Barrier(len(clients))

    def submit(client: Api) -> tuple[int, str, Any]:
        client.get("task-types")
        start.wait()
        answer = client.submit(tags=["hundred"], headers={"Idempotency-Key": "hundred"})
        body = {name: value for name, value in answer.json().items() if name not in PROGRESS}
        return answer.status_code, answer.headers.get("location", ""), body

    with ThreadPoolExecutor(len(clients)) as pool:
        answers = list(pool.map(submit, clients))
    [job] = Job.objects.filter(tags=["hundred"])
    message = "Task 'flaky' queued on 'default' queue."
    accepted = {"task_id": str(job.pk), "priority": "default", "message": message}
    assert (202, f"/api/tasks/{job.pk}", accepted) in answers
    for code, location, body in answers:
        is_busy = (code, body.get("type")) == (409, "urn:switchyard:problem:key-busy")
        assert is_busy or (code, location, body) == (202, f"/api/tasks/{job.pk}", accepted)


def test_the_same_request_again_is_answered_with_the_same_job(api: Api) -> None:
    first = api.submit(headers={"Idempotency-Key": "again"})
    assert "idempotency-replayed" not in first.headers
    task_id = first.json()["task_id"]
    result = api.followed(task_id)["result"]
    second = api.submit(headers={"Idempotency-Key": "again"})
    assert second.status_code == 202 and second.headers["idempotency-replayed"] == "true"
    body = second.json()
    assert (body["task_id"], body["status"], body["result"]) == (task_id, "SUCCESS", result)


def test_the_same_key_with_another_body_is_refused_and_names_the_job(api: Api) -> None:
    task_id = api.submitted(idempotency_key="other body")
    answer = api.submit(payload={"failures": 1}, idempotency_key="other body")
    assert is_problem(answer, 422, "key-reused") and answer.json()["task_id"] == task_id


@pytest.mark.parametrize("path", ["tasks/submit", "tasks/bulk", "tasks/bulk?atomic=true"])
def test_while_the_first_request_is_open_the_second_is_told_to_try_again(api: Api, path: str) -> None:
    order = {"task_type": "flaky", "payload": {"failures": 0}, "run_at": "2100-01-01T00:00:00Z"}
    owner = f"user:{person().pk}"
    with transaction.atomic():
        submit("flaky", {"failures": 0}, run_at=order["run_at"], key=f"open {path}", scope=owner)
        keyed = order | {"idempotency_key": f"open {path}"}
        answer = api.post(path, json=keyed if path == "tasks/submit" else [keyed])
    assert is_problem(answer, 409, "key-busy") and int(answer.headers["retry-after"]) > 0
    assert Job.objects.filter(key__key=f"open {path}").count() == 1


def test_another_time_is_not_another_body(api: Api) -> None:
    task_id = api.waiting(idempotency_key="other time")
    assert api.submit(idempotency_key="other time").json()["task_id"] == task_id


@pytest.mark.parametrize("header", ['"quoted"', "quoted"])
def test_a_quoted_key_is_the_same_as_a_bare_one_and_as_the_field(api: Api, header: str) -> None:
    task_id = api.submitted(idempotency_key="quoted")
    assert api.submit(headers={"Idempotency-Key": header}).json()["task_id"] == task_id


def test_keys_belong_to_an_owner_not_to_a_token(web: str) -> None:
    ann, bob = person("ann"), person("bob")
    made = []
    for owner in (ann, ann, bob):
        with Api(web, token("submit", owner=owner)) as api:
            made.append(api.submitted(idempotency_key="mine"))
    assert made[0] == made[1] != made[2]
