"""One key makes one job, whoever sends it how often."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from jobs.models import Job
from tests.api.calling import Api, is_problem, person, token


def test_a_hundred_concurrent_submits_of_one_key_make_one_job(web: str, secret: str) -> None:
    """Over real HTTP: one job, and every answer either the same or 409 while the first is open."""
    clients = [Api(web, secret) for _ in range(100)]
    start = Barrier(len(clients))

    def submit(client: Api) -> tuple[int, str]:
        client.get("task-types")
        start.wait()
        answer = client.submit(tags=["hundred"], headers={"Idempotency-Key": "hundred"})
        return answer.status_code, answer.json().get("task_id", answer.json().get("type"))

    with ThreadPoolExecutor(len(clients)) as pool:
        answers = set(pool.map(submit, clients))
    [job] = Job.objects.filter(tags=["hundred"])
    assert (202, str(job.pk)) in answers
    assert answers <= {(202, str(job.pk)), (409, "urn:switchyard:problem:key-busy")}


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
