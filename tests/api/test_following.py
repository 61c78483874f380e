"""Following jobs: lists, waiting for the end, and why a job is not running."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from api.paging import decoded
from jobs import browsing, registry
from jobs.models import Job, Worker
from jobs.policies import policy
from tests.api.calling import Api, is_problem
from tests.waiting import eventually


def listed(api: Api, **filters: Any) -> list[str]:
    return [item["task_id"] for item in api.get("tasks", params=filters).json()["items"]]


def test_pages_show_every_job_once_newest_first(api: Api) -> None:
    made = [api.waiting(tags=["paged"]) for _ in range(5)]
    seen, cursor = [], None
    while True:
        page = api.get("tasks", params={"tag": "paged", "limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [item["task_id"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == made[::-1]


def test_a_page_is_the_same_when_newer_jobs_have_come(api: Api) -> None:
    made = [api.waiting(tags=["moving"]) for _ in range(4)]
    first = api.get("tasks", params={"tag": "moving", "limit": 2}).json()
    api.waiting(tags=["moving"])
    second = api.get("tasks", params={"tag": "moving", "limit": 2, "cursor": first["next"]}).json()
    assert [item["task_id"] for item in second["items"]] == made[1::-1]


def test_every_filter_narrows(api: Api) -> None:
    before = timezone.now() - timedelta(seconds=1)
    failed = api.submitted("always_fails", {"message": "to be found"}, tags=["found"], priority="low")
    other = api.waiting(tags=["found"])
    error = eventually(lambda: api.get(f"tasks/{failed}").json()["fingerprint"], within=30)
    for filters in (
        {"status": "RETRY"},
        {"task_type": "always_fails"},
        {"queue": "low"},
        {"fingerprint": error},
        {"payload.message": "to be found"},
    ):
        assert listed(api, tag="found", **filters) == [failed], filters
    assert listed(api, tag="found", since=before.isoformat()) == [other, failed]
    assert listed(api, tag="found", until=before.isoformat()) == []


def test_a_searchable_field_is_looked_up_and_others_are_looked_for(api: Api) -> None:
    mail = {"to": "found@example.com", "subject": "nested", "body": "b"}
    task_id = api.waiting(task="send_email", payload=mail)
    answer = api.get("tasks", params={"payload.to": "found@example.com"}).json()
    assert ([item["task_id"] for item in answer["items"]], answer["complete"]) == ([task_id], True)
    assert listed(api, **{"payload.subject": "nested"}) == [task_id]
    assert listed(api, **{"payload.to": "found@example.com", "payload.subject": "other"}) == []


def test_a_path_reaches_into_a_payload(api: Api) -> None:
    task_id = api.waiting(task="process_data", payload={"records": [{"id": 77001, "value": 1}]})
    assert listed(api, **{"payload.records.0.id": "77001"}) == [task_id]


def test_a_scan_stops_and_says_where_to_go_on(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, with a bound of three rows; nothing on HTTP could make 100,000 of them in time."""
    monkeypatch.setattr(browsing, "LOOKED_AT", 3)
    oldest = api.waiting(payload={"failures": 91})
    for _ in range(4):
        api.waiting()
    wanted = browsing.Wanted(payload={"failures": "91"})
    first, complete = browsing.browse(wanted, None, 50)
    assert (list(first.rows), complete) == ([], False)
    second, _ = browsing.browse(wanted, decoded(first.next or ""), 50)
    assert [str(job.pk) for job in second.rows] == [oldest]


def test_a_list_costs_one_query_however_long_it_is(api: Api, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        browsing.browse(browsing.Wanted(payload={}), None, 200)


def test_waiting_ends_when_the_job_does(api: Api) -> None:
    task_id = api.submitted("slow", {"seconds": 1})
    began = time.monotonic()
    assert api.followed(task_id, timeout=50)["status"] == "SUCCESS"
    assert time.monotonic() - began < 40


def test_waiting_ends_with_its_timeout(api: Api) -> None:
    task_id = api.waiting()
    began = time.monotonic()
    assert api.followed(task_id, timeout=0.5)["status"] == "PENDING"
    assert 0.4 < time.monotonic() - began < 5


def test_many_may_wait_without_keeping_others_waiting(web: str, secret: str, api: Api) -> None:
    """Four times as many as the process has threads."""
    task_id = api.waiting()
    clients = [Api(web, secret) for _ in range(32)]
    with ThreadPoolExecutor(len(clients)) as pool:
        waiting = [pool.submit(client.followed, task_id, 60) for client in clients]
        assert api.get("task-types").elapsed < timedelta(seconds=5)
        api.delete(f"tasks/{task_id}/cancel")
        assert {future.result()["status"] for future in waiting} == {"REVOKED"}


def test_why_names_a_paused_queue_its_time_and_its_retry(api: Api) -> None:
    api.put("queues/low/pause", json={"reason": "maintenance"})
    try:
        reasons = _why(api, api.submitted(priority="low"))
        assert reasons["QUEUE_PAUSED"]["text"] == "Queue 'low' was paused by admin (token test): maintenance."
    finally:
        api.delete("queues/low/pause")
    assert _why(api, api.waiting())["WAITING_UNTIL"]["until"] == "2100-01-01T00:00:00Z"
    failed = api.submitted("always_fails")
    eventually(lambda: "retry 1 of 3" in str(_why(api, failed)), within=30)


def test_why_says_who_runs_it_and_that_it_is_over(api: Api) -> None:
    task_id = api.submitted("slow", {"seconds": 2})
    eventually(lambda: "RUNNING" in _why(api, task_id), within=30)
    assert "w@test" in _why(api, task_id)["RUNNING"]["text"]
    api.followed(task_id)
    assert set(_why(api, task_id)) == {"FINISHED"}


def test_why_counts_the_jobs_ahead(api: Api) -> None:
    api.put("queues/low/pause", json={"reason": "x"})
    try:
        made = [api.submitted(priority="low", run_at=f"2020-01-01T00:00:0{number}Z") for number in range(3)]
        assert _why(api, made[-1])["AHEAD"]["text"] == "2 due jobs are ahead of it on queue 'low'."
    finally:
        api.delete("queues/low/pause")


def test_why_misses_a_worker_on_the_queue(api: Api) -> None:
    """A job one death short of its last waits for the queue `solo`, which the rows say nobody serves."""
    Worker.objects.filter(kind="worker").update(queues=["high", "default", "low", "system"])
    task_id = api.waiting()
    Job.objects.filter(pk=task_id).update(max_deaths=1)
    assert "'solo'" in _why(api, task_id)["NO_WORKER"]["text"]
    Worker.objects.filter(kind="worker").update(queues=["high", "default", "low", "solo", "system"])


def test_a_retry_makes_a_waiting_job_due(api: Api) -> None:
    task_id = api.waiting()
    assert api.post(f"tasks/{task_id}/retry").status_code == 202
    assert api.followed(task_id)["status"] == "SUCCESS"
    assert is_problem(api.post(f"tasks/{task_id}/retry"), 409, "conflict")
    assert is_problem(api.post("tasks/01a1f7e1-947b-78c6-938a-6acbad55160e/retry"), 404, "not-found")


def test_waiting_takes_half_a_minute_unless_told_and_a_minute_at_most(api: Api) -> None:
    operation = api.get("openapi.json").json()["paths"]["/api/tasks/{task_id}/wait"]["get"]
    [schema] = [each["schema"] for each in operation["parameters"] if each["name"] == "timeout"]
    assert (schema["default"], schema["minimum"], schema["maximum"]) == (30, 0, 60)
    assert is_problem(api.get(f"tasks/{api.waiting()}/wait", params={"timeout": 60.5}), 422, "invalid")


def test_every_task_shows_its_policy_and_the_schema_of_its_payload(api: Api) -> None:
    types = {each["name"]: each for each in api.get("task-types").json()}
    # Other modules of tests may have registered tasks in this process, which the server knows nothing of.
    shipped = {name: task for name, task in registry.tasks().items() if not task.__module__.startswith("tests.")}
    assert types.keys() == shipped.keys()
    for name, task in shipped.items():
        assert types[name]["policy"] == json.loads(json.dumps(asdict(policy(name)))), name
        assert types[name]["payload_schema"] == registry.arguments(task).model_json_schema(), name
    mail = types["send_email"]
    assert mail["policy"]["queue"] == "high" and mail["policy"]["redacted"] == ["body"]
    assert {"to", "subject", "body"} <= set(mail["payload_schema"]["properties"])


def _why(api: Api, task_id: str) -> dict[str, dict[str, Any]]:
    return {reason["code"]: reason for reason in api.get(f"tasks/{task_id}/why").json()["reasons"]}
