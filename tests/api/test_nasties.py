"""What clients should never send, and what they get for it: a problem that names the place, and nothing written."""

from collections.abc import Iterator
from typing import Any

import pytest

from jobs.models import IdempotencyKey, Job
from tests.api.calling import Api, is_problem

JSON = {"Content-Type": "application/json"}
BIG = 10 * 1024 * 1024


@pytest.fixture(autouse=True)
def _nothing_is_written() -> Iterator[None]:
    before = _written()
    yield
    assert _written() == before


def _written() -> tuple[int, int]:
    """Rows, less those of the schedules, which tick while the tests run."""
    return Job.objects.filter(schedule=None).count(), IdempotencyKey.objects.exclude(scope="beat").count()


def places(answer: Any) -> list[str]:
    return [error.get("pointer", error.get("parameter")) for error in answer.json()["errors"]]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (r'{"task_type": "always_fails", "payload": {"message": "a\u0000b"}}', "/payload/message"),
        (r'{"task_type": "always_fails", "payload": {"message": "\ud800"}}', "/payload/message"),
        (r'{"task_type": "always_fails", "payload": {"mess\u0000age": "b"}}', "/payload"),
        ('{"task_type": "slow", "payload": {"seconds": NaN}}', "/payload/seconds"),
        ('{"task_type": "slow", "payload": {"seconds": Infinity}}', "/payload/seconds"),
        ('{"task_type": "slow", "payload": {"seconds": 1e999}}', "/payload/seconds"),
        ('{"task_type": "flaky", "payload": {"failures": "5"}}', "/payload/failures"),
        ('{"task_type": "flaky", "payload": {"failures": 5.5}}', "/payload/failures"),
        ('{"task_type": "flaky", "payload": {"failures": true}}', "/payload/failures"),
        ('{"task_type": "flaky", "payload": {"failures": null}}', "/payload/failures"),
        ('{"task_type": "flaky", "payload": {"failures": 5, "more": 1}}', "/payload/more"),
        ('{"task_type": "flaky", "payload": {"a/b~c": 1}}', "/payload/a~1b~0c"),
        ('{"task_type": "flaky", "payload": []}', "/payload"),
        ('{"task_type": "flaky", "payload": "{}"}', "/payload"),
        ('{"task_type": 5}', "/task_type"),
        ('{"task_type": "no_such_task"}', "/task_type"),
        (r'{"task_type": "fl\u0000aky"}', "/task_type"),
        ("{}", "/task_type"),
        ('{"task_type": "flaky", "unknown": 1}', "/unknown"),
        ('{"task_type": "flaky", "priority": "urgent"}', "/priority"),
        ('{"task_type": "flaky", "priority": "system"}', "/priority"),
        ('{"task_type": "flaky", "run_at": "tomorrow"}', "/run_at"),
        ('{"task_type": "flaky", "run_at": "2026-11-20T03:00:00"}', "/run_at"),
        ('{"task_type": "flaky", "run_at": 5}', "/run_at"),
        ('{"task_type": "flaky", "run_at": "0001-01-01T00:00:00+14:00"}', "/run_at"),
        ('{"task_type": "flaky", "run_at": "9999-12-31T23:59:59-14:00"}', "/run_at"),
        ('{"task_type": "flaky", "tags": "x"}', "/tags"),
        ('{"task_type": "flaky", "tags": [5]}', "/tags/0"),
        ('{"task_type": "flaky", "tags": [""]}', "/tags/0"),
        ('{"task_type": "flaky", "idempotency_key": ""}', "/idempotency_key"),
        ('{"task_type": "flaky", "idempotency_key": 7}', "/idempotency_key"),
        ('{"task_type": "flaky", "callback_url": "file:///etc/passwd"}', "/callback_url"),
        ('{"task_type": "flaky", "callback_url": "http://169.254.169.254/latest/meta-data"}', "/callback_url"),
        ('{"task_type": "flaky", "callback_url": "http://127.0.0.1:1/"}', "/callback_url"),
        ('{"task_type": "flaky", "callback_url": "http://[::1]/"}', "/callback_url"),
        ('{"task_type": "flaky", "callback_url": "http://user:pw@example.com/"}', "/callback_url"),
        ("[]", ""),
        ('"flaky"', ""),
        ("null", ""),
        ("", ""),
    ],
)
def test_a_wrong_field_is_named(api: Api, body: str, pointer: str) -> None:
    answer = api.post("tasks/submit", content=body, headers=JSON)
    assert is_problem(answer, 422, "invalid") and places(answer) == [pointer]


def test_every_wrong_field_is_named_at_once(api: Api) -> None:
    answer = api.post("tasks/submit", json={"task_type": 1, "priority": 2, "x": 3})
    assert is_problem(answer, 422, "invalid") and sorted(places(answer)) == ["/priority", "/task_type", "/x"]


@pytest.mark.parametrize("depth", [100, 100_000])
@pytest.mark.parametrize("bracket", ["[]", "{}"])
def test_deep_nesting_is_refused(api: Api, depth: int, bracket: str) -> None:
    start, end = (bracket[0], bracket[1]) if bracket == "[]" else ('{"a":', "}")
    nested = start * depth + ("1" if bracket == "{}" else "") + end * depth
    body = f'{{"task_type": "process_data", "payload": {{"records": {nested}}}}}'
    assert is_problem(api.post("tasks/submit", content=body, headers=JSON), 422, "invalid")


@pytest.mark.parametrize(
    "body", [b"{", b"{'a': 1}", b"\xff\xfe", b'{"task_type": "flaky"} x', b"9" * 5000, b'{"a": 1,}', b"\x00"]
)
def test_what_is_not_json_is_refused(api: Api, body: bytes) -> None:
    assert is_problem(api.post("tasks/submit", content=body, headers=JSON), 400, "malformed")


@pytest.mark.parametrize("path", ["tasks/submit", "tasks/bulk"])
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "x"])
def test_another_media_type_is_refused(api: Api, path: str, kind: str) -> None:
    answer = api.post(path, content=b'{"task_type": "flaky"}', headers={"Content-Type": kind})
    assert is_problem(answer, 415, "unsupported-media-type")


def test_a_body_of_ten_megabytes_is_refused(api: Api) -> None:
    assert is_problem(api.submit("always_fails", {"message": "x" * BIG}), 413, "too-large")


def test_a_body_that_does_not_say_how_long_it_is_is_refused_while_it_arrives(api: Api) -> None:
    pieces = (b" " * 65536 for _ in range(BIG // 65536))
    assert is_problem(api.post("tasks/submit", content=pieces, headers=JSON), 413, "too-large")


def test_a_payload_over_its_limit_is_refused_by_name(api: Api) -> None:
    answer = api.submit("always_fails", {"message": "x" * 300_000})
    assert is_problem(answer, 422, "invalid") and places(answer) == ["/payload"]


@pytest.mark.parametrize("key", ["", "é", "x" * 256, '""'])
def test_a_key_that_cannot_be_one_is_refused(api: Api, key: str) -> None:
    answer = api.submit(headers={"Idempotency-Key": key.encode("latin1")})
    assert is_problem(answer, 422, "invalid") and places(answer) == ["Idempotency-Key"]


def test_two_different_keys_in_one_request_are_refused(api: Api) -> None:
    answer = api.submit(idempotency_key="a", headers={"Idempotency-Key": "b"})
    assert is_problem(answer, 422, "invalid") and places(answer) == ["/idempotency_key"]


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("tasks?limit=0", "limit"),
        ("tasks?limit=1e3", "limit"),
        ("tasks?limit=99999999999999999999999", "limit"),
        ("tasks?cursor=x", "cursor"),
        ("tasks?cursor=WyJhIiwgMV0", "cursor"),
        ("tasks?cursor=%00", "cursor"),
        ("tasks?status=DONE", "status"),
        ("tasks?since=yesterday", "since"),
        ("tasks?since=0.5", "since"),
        ("dead-letters?until=2026-11-20", "until"),
        ("tasks?until=9999-12-31T23:59:59-14:00", "until"),
        ("tasks?task_type=%00", "task_type"),
        ("tasks?payload.a=%00", "payload.a"),
        ("tasks?payload.%00=a", "payload.\x00"),
        ("dead-letters?task_type=%00", "task_type"),
        ("dead-letters?cursor=WyJhIiwgMV0", "cursor"),
        ("dead-letters?cause=BAD", "cause"),
        ("replays?cursor=x", "cursor"),
        ("tasks/01a1f7e1-947b-78c6-938a-6acbad55160e/wait?timeout=-1", "timeout"),
        ("tasks/01a1f7e1-947b-78c6-938a-6acbad55160e/wait?timeout=nan", "timeout"),
    ],
)
def test_a_wrong_parameter_is_named(api: Api, path: str, parameter: str) -> None:
    answer = api.get(path)
    assert is_problem(answer, 422, "invalid") and places(answer) == [parameter]


@pytest.mark.parametrize("number", ["0", "-1", "99999999999999999999999999", "1.5", "a", "%00"])
def test_a_number_that_no_row_has_is_not_found(api: Api, number: str) -> None:
    for path in ("dead-letters", "replays", "schedules"):
        answer = api.post(f"{path}/{number}/run") if path == "schedules" else api.get(f"{path}/{number}")
        assert is_problem(answer, 404, "not-found")
