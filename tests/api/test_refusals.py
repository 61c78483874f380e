"""Who is refused, and how: every refusal is a problem of a documented type, never a page, never a traceback."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.utils import timezone

from api.models import ApiToken
from api.problems import KINDS
from jobs.models import Job
from tests.api.calling import Api, is_problem, person, session, token
from tests.fleet import ROOT, Fleet
from tests.waiting import eventually

# A call per scope that a token needs, and the permission a person needs instead.
CALLS = [
    ("read", "jobs.view_job", "GET", "tasks", None),
    ("read", "jobs.view_queue", "GET", "queues", None),
    ("read", "jobs.view_queue", "GET", "workers/stats", None),
    ("read", "jobs.view_queue", "GET", "workers/health", None),
    ("read", "deadletters.view_deadletter", "GET", "dead-letters", None),
    ("read", "monitoring.view_report", "GET", "reports", None),
    ("submit", "jobs.submit_job", "POST", "tasks/submit", {"task_type": "flaky", "payload": {}}),
    ("submit", "jobs.submit_job", "POST", "tasks/bulk", [{"task_type": "flaky"}]),
    ("operate", "jobs.cancel_job", "DELETE", "tasks/01a1f7e1-947b-78c6-938a-6acbad55160e/cancel", None),
    ("operate", "jobs.retry_job", "POST", "tasks/01a1f7e1-947b-78c6-938a-6acbad55160e/retry", None),
    ("operate", "jobs.pause_queue", "PUT", "queues/low/pause", {"reason": "x"}),
    ("operate", "deadletters.replay_deadletter", "POST", "dead-letters/1/replay", {"reason": "x"}),
    ("operate", "deadletters.drop_deadletter", "POST", "dead-letters/1/drop", {"reason": "x"}),
    ("operate", "deadletters.replay_deadletter", "POST", "replays", {"filter": {}, "reason": "x", "dry_run": True}),
    ("operate", "jobs.submit_job", "POST", "schedules/1/run", None),
]
OTHERS = {"read": ["submit", "operate", "metrics"], "submit": ["read", "metrics"], "operate": ["read", "submit"]}
each_call = pytest.mark.parametrize(("scope", "permission", "method", "path", "body"), CALLS)


def is_unauthenticated(answer: httpx.Response) -> bool:
    assert answer.headers["www-authenticate"].startswith("Bearer")
    return is_problem(answer, 401, "unauthenticated")


@each_call
def test_nothing_answers_without_a_token(
    web: str, scope: str, permission: str, method: str, path: str, body: Any
) -> None:
    with Api(web) as nobody:
        assert is_unauthenticated(nobody.request(method, path, json=body))


@pytest.mark.parametrize("path", ["/api/openapi.json", "/api/tasks/submit", "/api/"])
def test_nothing_else_under_api_answers_without_a_token_either(web: str, path: str) -> None:
    answer = httpx.get(web + path)
    assert answer.status_code in (401, 404, 405) and answer.headers["content-type"] == "application/problem+json"


def test_liveness_needs_no_token(web: str) -> None:
    assert httpx.get(f"{web}/healthz").json() == {"status": "alive"}


@pytest.mark.parametrize("secret", ["x", "abcdefgh.x", "\x80\xff", "a" * 5000, "x y"])
def test_a_token_that_never_was_is_refused(web: str, secret: str) -> None:
    header = {"Authorization": f"Bearer {secret}".encode("latin1")}
    with Api(web) as api:
        assert is_unauthenticated(api.get("tasks", headers=header))


def test_another_scheme_is_refused(web: str) -> None:
    with Api(web) as api:
        assert is_unauthenticated(api.get("tasks", headers={"Authorization": "Basic YTpi"}))


def test_an_expired_token_is_refused(web: str) -> None:
    with Api(web, token(expires_at=timezone.now() - timedelta(seconds=1))) as api:
        assert is_unauthenticated(api.get("tasks"))


def test_a_revoked_token_is_refused_from_the_next_call_on(web: str) -> None:
    with Api(web, token(name="to revoke")) as api:
        assert api.get("tasks").status_code == 200
        ApiToken.objects.filter(name="to revoke").update(revoked_at=timezone.now())
        assert is_unauthenticated(api.get("tasks"))


def test_a_token_of_somebody_who_left_is_refused(web: str) -> None:
    with Api(web, token(owner=person("gone", is_active=False))) as api:
        assert is_unauthenticated(api.get("tasks"))


@each_call
def test_a_token_without_the_scope_is_refused(
    web: str, scope: str, permission: str, method: str, path: str, body: Any
) -> None:
    before = Job.objects.count()
    with Api(web, token(*OTHERS[scope])) as api:
        answer = api.request(method, path, json=body)
    assert is_problem(answer, 403, "forbidden") and scope in answer.json()["detail"]
    assert Job.objects.count() == before


def test_the_tasks_that_keep_house_need_the_scope_operate(web: str) -> None:
    with Api(web, token("submit")) as api:
        assert is_problem(api.submit("retire_jobs"), 403, "forbidden")


@each_call
def test_a_session_needs_the_permission(
    web: str, scope: str, permission: str, method: str, path: str, body: Any
) -> None:
    person("viewer", "api.view_apitoken")
    with session(web, "viewer") as api:
        answer = api.request(method, path, json=body, headers=api.csrf)
    assert is_problem(answer, 403, "forbidden") and permission in answer.json()["detail"]


def test_a_session_with_the_permission_may(web: str) -> None:
    person("submitter", "jobs.submit_job")
    with session(web, "submitter") as api:
        assert api.submit(headers=api.csrf).status_code == 202


@pytest.mark.parametrize("headers", [{}, {"X-CSRFToken": "b" * 32}])
def test_a_session_without_its_csrf_token_is_refused(web: str, headers: dict[str, str]) -> None:
    """What a page of somebody else's could send: the owner's cookies, but not the token their pages know."""
    person()
    before = Job.objects.count()
    with session(web) as api:
        assert is_problem(api.submit(headers=headers), 403, "csrf-failed")
        assert is_problem(api.post("tasks/bulk", json=[{"task_type": "flaky"}], headers=headers), 403, "csrf-failed")
        for method, path, body in (
            ("PUT", "queues/low/pause", {"reason": "x"}),
            ("DELETE", "queues/low/pause", None),
            ("DELETE", "tasks/01a1f7e1-947b-78c6-938a-6acbad55160e/cancel", None),
        ):
            assert is_problem(api.request(method, path, json=body, headers=headers), 403, "csrf-failed")
        assert not api.get("queues/low").json()["paused"]
    assert Job.objects.count() == before


def test_a_session_of_somebody_who_is_no_staff_is_refused(web: str) -> None:
    person("guest")
    with session(web, "guest") as api:
        person("guest", is_staff=False, is_superuser=False)
        assert is_unauthenticated(api.get("tasks"))


def test_a_session_that_is_over_is_refused(web: str) -> None:
    with Api(web, cookies={"sessionid": "x" * 32}) as api:
        assert is_unauthenticated(api.get("tasks"))


def test_a_bad_token_is_refused_even_with_a_good_session(web: str) -> None:
    person()
    with session(web) as api:
        assert is_unauthenticated(api.get("tasks", headers={"Authorization": "Bearer nothing"}))


def test_an_unknown_address_is_a_problem(api: Api) -> None:
    for path in (
        "nothing",
        "tasks/submit/",
        "tasks/bulk/",
        "reports/nothing/latest",
        "queues/nothing",
        "dead-letters/x",
    ):
        answer = api.get(path)
        assert answer.status_code in (404, 405) and answer.headers["content-type"] == "application/problem+json"


def test_a_wrong_method_is_told_the_right_ones(api: Api) -> None:
    answer = api.put("tasks/submit")
    assert is_problem(answer, 405, "method-not-allowed") and answer.headers["allow"] == "POST"


def test_a_host_that_is_not_ours_is_a_problem(api: Api) -> None:
    assert is_problem(api.get("tasks", headers={"Host": "evil.example"}), 400, "malformed")


def test_redacted_fields_are_masked_for_readers(web: str, api: Api) -> None:
    payload = {"to": "a@example.com", "subject": "s", "body": "the secret"}
    task_id = api.submitted("send_email", payload, run_at="2100-01-01T00:00:00Z", tags=["masked"])
    assert api.get(f"tasks/{task_id}").json()["payload"] == payload
    with Api(web, token("read")) as reader:
        assert reader.get(f"tasks/{task_id}").json()["payload"] == payload | {"body": "••••"}
        assert "the secret" not in reader.get("tasks", params={"tag": "masked"}).text
        asked = reader.get("tasks", params={"payload.body": "the secret"})
        assert is_problem(asked, 422, "invalid")


@pytest.fixture(scope="module")
def slow_gates(house: Fleet) -> Iterator[list[str]]:
    """Two web processes that let a caller make three requests at once and one more every hundred seconds."""
    limits = {"API_RATE_PER_SECOND": "0.01", "API_RATE_BURST": "3"}
    names = ("gate-1", "gate-2")
    yield [house.web(name, **limits) for name in names]
    for name in names:
        house.kill(name)


def test_a_token_has_one_rate_over_all_web_processes(slow_gates: list[str]) -> None:
    refusal = eventually(lambda: _fourth_refused(slow_gates), within=60, what="the fourth of four to be refused")
    assert is_problem(refusal, 429, "too-many-requests")
    assert 1 <= int(refusal.headers["retry-after"]) <= 100
    with Api(slow_gates[0], token()) as another:
        assert another.get("task-types").status_code == 200


def _fourth_refused(gates: list[str]) -> httpx.Response | None:
    """A Redis that takes too long lets everybody through for a while: then it is tried again, with another token."""
    secret = token()
    with Api(gates[0], secret) as here, Api(gates[1], secret) as there:
        answers = [client.get("task-types") for client in (here, there, here, there)]
    assert [answer.status_code for answer in answers[:3]] == [200, 200, 200]
    return answers[3] if answers[3].is_error else None


def test_every_problem_is_documented() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    documented = dict(re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", text, re.MULTILINE))
    assert documented == {kind: str(status) for kind, (status, _) in KINDS.items()}
