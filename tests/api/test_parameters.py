"""A query parameter that an operation does not have is refused by name, on every operation."""

from typing import Any

import pytest

from tests.api.calling import Api, is_problem, token

PLACES = {
    "task_id": "01a1f7e1-947b-78c6-938a-6acbad55160e",
    "name": "low",
    "letter_id": 1,
    "replay_id": 1,
    "schedule_id": 1,
    "kind": "daily",
}
BODIES: dict[str, Any] = {
    "/api/tasks/submit": {"task_type": "flaky"},
    "/api/tasks/bulk": [{"task_type": "flaky"}],
    "/api/queues/{name}/pause": {"reason": "x"},
    "/api/dead-letters/{letter_id}/replay": {"reason": "x"},
    "/api/dead-letters/{letter_id}/drop": {"reason": "x"},
    "/api/replays": {"filter": {}, "reason": "x", "dry_run": True},
}


def test_every_operation_refuses_a_parameter_it_does_not_have(api: Api) -> None:
    document = api.get("openapi.json").json()
    operations = [(method, path) for path, methods in document["paths"].items() for method in methods]
    assert len(operations) > 30
    for method, path in operations:
        body = BODIES.get(path) if method in ("post", "put") else None
        answer = api.request(method, api.address + path.format(**PLACES), params={"no_such": "1"}, json=body)
        assert is_problem(answer, 422, "invalid"), (method, path)
        assert answer.json()["errors"][0]["parameter"] == "no_such", (method, path)
    assert not api.get("queues/low").json()["paused"]


@pytest.mark.parametrize("parameter", ["statuss", "Status", "status ", "payload", "", "payloadx.y", "limit[]"])
def test_a_misspelt_filter_does_not_answer_with_everything(api: Api, parameter: str) -> None:
    answer = api.get("tasks", params={parameter: "1"})
    assert is_problem(answer, 422, "invalid") and answer.json()["errors"][0]["parameter"] == parameter


def test_it_says_which_there_are(api: Api) -> None:
    detail = api.get("replays", params={"state": "DONE"}).json()["errors"][0]["detail"]
    assert detail == "is no parameter here; there are cursor, limit"


def test_searching_by_payload_takes_any_path(api: Api) -> None:
    assert api.get("tasks", params={"payload.no.such": "1", "limit": 1}).status_code == 200


def test_who_may_not_call_is_told_that_first(web: str) -> None:
    with Api(web) as nobody:
        assert is_problem(nobody.get("tasks", params={"no_such": "1"}), 401, "unauthenticated")
    with Api(web, token("submit")) as submitter:
        assert is_problem(submitter.get("tasks", params={"no_such": "1"}), 403, "forbidden")
