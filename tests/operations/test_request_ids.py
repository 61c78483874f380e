"""One id from the HTTP call to the last line of its job: in the answer, in the web's lines, in the worker's."""

import json
from typing import Any

import httpx
import pytest
from django.db import transaction

from deadletters.models import DeadLetter
from jobs.logs import logged_with
from jobs.models import Job
from jobs.submission import submit
from tests.api.calling import Api, token
from tests.fleet import Fleet
from tests.operations import talking_tasks
from tests.waiting import eventually, settled

MINE = "req-42.example"


@pytest.fixture(scope="module")
def house(fleet: Fleet) -> tuple[Fleet, Api]:
    fleet.environment["LOG_FORMAT"] = "json"
    fleet.launch_worker("w", queues="high,default,low,solo,system", size=2, include=talking_tasks.__name__)
    fleet.dispatcher()
    address = fleet.web(access_log=True)
    fleet.enlisted("w")
    return fleet, Api(address, token())


def lines(fleet: Fleet, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in fleet.log(name).splitlines() if line.startswith("{")]


def submitted(house: tuple[Fleet, Api], task: str = "flaky", payload: Any = None, **headers: str) -> tuple[Job, str]:
    """The job once it is over, and the id that was answered."""
    answer = house[1].submit(task, payload, headers=headers)
    assert answer.status_code == 202, answer.text
    return settled(Job.objects.get(pk=answer.json()["task_id"])), answer.headers["x-request-id"]


def test_every_line_of_the_job_has_the_id_of_the_call(house: tuple[Fleet, Api]) -> None:
    job, answered = submitted(house, payload={"failures": 1}, **{"X-Request-ID": MINE})
    assert answered == MINE
    said = [line for line in lines(house[0], "w") if line.get("job_id") == str(job.pk)]
    assert [line["msg"] for line in said] == ["job claimed", "job settled"] * 2
    assert {line["request_id"] for line in said} == {MINE}


def test_a_replayed_job_keeps_the_id_it_was_submitted_with(house: tuple[Fleet, Api]) -> None:
    """The replay's own id is in the lines of the web process; those of the job stay together."""
    fleet, api = house
    task_id = api.waiting(task="flaky", payload={"failures": 1}, headers={"X-Request-ID": "the-submit"})
    job = Job.objects.get(pk=task_id)
    Job.objects.filter(pk=task_id).update(max_retries=0)
    api.post(f"tasks/{task_id}/retry", headers={"X-Request-ID": "the-retry"})
    letter = eventually(lambda: DeadLetter.objects.open().filter(job=job).first(), within=60, what="a letter")
    mended = {"reason": "mended", "payload": {"failures": 0}}
    answer = api.post(f"dead-letters/{letter.pk}/replay", json=mended, headers={"X-Request-ID": "the-replay"})
    assert answer.status_code == 202, answer.text
    job.refresh_from_db()
    assert settled(job).state == "SUCCESS" and job.attempt == 2
    assert job.trace is not None and job.trace["request_id"] == "the-submit"
    said = [line for line in lines(fleet, "w") if line.get("job_id") == task_id and line["msg"] == "job claimed"]
    assert [(line["attempt"], line["request_id"]) for line in said] == [(1, "the-submit"), (2, "the-submit")]


def test_jobs_submitted_from_a_body_have_the_id_too_and_so_have_theirs(house: tuple[Fleet, Api]) -> None:
    with logged_with(request_id="the-first"):
        first = submit("pass_on", {"count": 2})
    others = Job.objects.filter(task="pass_on").exclude(pk=first.pk)
    eventually(lambda: others.filter(state="SUCCESS").count() == 2, within=60, what="the jobs of the bodies")
    ids = {str(job.pk) for job in others} | {str(first.pk)}
    assert {job.trace["request_id"] for job in others if job.trace} == {"the-first"} and len(ids) == 3
    said = [line for line in lines(house[0], "w") if line.get("job_id") in ids]
    assert {line["job_id"] for line in said} == ids and {line.get("request_id") for line in said} == {"the-first"}
    settled(submit("pass_on", {"count": 1}))
    quiet = Job.objects.filter(task="pass_on").exclude(pk__in=ids)
    eventually(lambda: quiet.filter(state="SUCCESS").count() == 2, within=60, what="those nobody asked for by HTTP")
    assert {(job.trace or {}).get("request_id") for job in quiet} == {None}


def test_a_job_in_a_batch_has_its_own_id_and_not_its_neighbours(house: tuple[Fleet, Api]) -> None:
    asked: dict[str, str | None] = {}
    with transaction.atomic():
        for mine in ("the-one", "the-other", None):
            with logged_with(**{"request_id": mine} if mine else {}):
                asked[str(submit("process_data", {"records": [{"id": 1, "value": 1}]}).pk)] = mine
    jobs = [settled(Job.objects.get(pk=each)) for each in asked]
    assert len({job.claim_token for job in jobs}) == 1, "they were not claimed together"
    told = [line for line in lines(house[0], "w") if line.get("job_id") in asked]
    assert {(line["job_id"], line.get("request_id")) for line in told} == set(asked.items())


def test_the_lines_of_the_web_process_are_json_with_the_id(house: tuple[Fleet, Api]) -> None:
    fleet, api = house
    answer = api.get("tasks/none", headers={"X-Request-ID": "lost-one"})
    assert answer.headers["x-request-id"] == "lost-one"
    said = eventually(
        lambda: [line for line in lines(fleet, "web") if line.get("request_id") == "lost-one"],
        within=15, what="the lines",
    )  # fmt: skip
    assert {"uvicorn.access", "django.request"} >= {line["logger"] for line in said} >= {"uvicorn.access"}
    assert len(lines(fleet, "web")) == len(fleet.log("web").splitlines())


@pytest.mark.parametrize("given", ["x" * 101, "two words", "", "naïve", 'a"b'])
def test_an_id_that_could_harm_a_log_is_replaced(given: str, house: tuple[Fleet, Api]) -> None:
    answer = house[1].get("tasks", headers={"X-Request-ID": given.encode()})  # type: ignore[dict-item]
    assert len(answer.headers["x-request-id"]) == 32
    assert answer.headers["x-request-id"] != given


def test_refusals_and_pages_have_one_too(house: tuple[Fleet, Api]) -> None:
    _, api = house
    large = api.post("tasks/submit", content=b"x" * (2 * 1024 * 1024), headers={"Content-Type": "application/json"})
    page = httpx.get(f"{api.address}/admin/login/", trust_env=False)
    assert (large.status_code, page.status_code) == (413, 200)
    ids = {answer.headers["x-request-id"] for answer in (large, page)}
    assert len(ids) == 2 and all(len(each) == 32 for each in ids)
