"""Many jobs in one request: each answered for itself, or all or nothing."""

import json
from typing import Any

import httpx
import pytest
from django.conf import settings

from jobs.api.entries import LONGEST_ENTRY
from jobs.models import Job
from tests.api.calling import Api, is_problem

FLAKY = {"task_type": "flaky", "payload": {"failures": 0}, "run_at": "2100-01-01T00:00:00Z"}
NDJSON = {"Content-Type": "application/x-ndjson"}
JSON = {"Content-Type": "application/json"}
LONG = "x" * 1_100_000
# What is more than the longest entry, and the line's end.
LENGTHS = [(0, b""), (0, b"\n"), (1, b""), (1, b"\n")]


def lines(entries: list[Any]) -> bytes:
    return b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)


def answered(answer: httpx.Response) -> list[dict]:
    return [json.loads(line) for line in answer.text.splitlines()]


def tagged(tag: str, count: int) -> list[dict]:
    return [FLAKY | {"tags": [tag]}] * count


def test_every_job_of_an_array_is_submitted(api: Api) -> None:
    answer = api.post("tasks/bulk", json=tagged("array", 2500))
    body = answer.json()
    assert (answer.status_code, body["accepted"], body["refused"]) == (202, 2500, 0)
    assert [item["index"] for item in body["items"]] == list(range(2500))
    assert {item["task_id"] for item in body["items"]} == {str(pk) for pk in _ids("array")}


def test_lines_are_answered_by_lines(api: Api) -> None:
    answer = api.post("tasks/bulk", content=lines(tagged("lines", 2500)), headers=NDJSON)
    items = answered(answer)
    assert answer.status_code == 207 and answer.headers["content-type"] == "application/x-ndjson"
    assert {item["task_id"] for item in items} == {str(pk) for pk in _ids("lines")} and len(items) == 2500


@pytest.mark.parametrize("form", ["array", "lines"])
def test_a_bad_entry_does_not_stop_the_others(api: Api, form: str) -> None:
    tag = f"bad {form}"
    bad = [{"task_type": "flaky", "payload": {"failures": "5"}}, 5, {"task_type": "x"}, FLAKY | {"tags": ["a\0"]}]
    entries = [*tagged(tag, 1), *bad, *tagged(tag, 1)]
    content, headers = (lines(entries), NDJSON) if form == "lines" else (json.dumps(entries).encode(), JSON)
    answer = api.post("tasks/bulk", content=content, headers=headers)
    items = answered(answer) if form == "lines" else answer.json()["items"]
    assert answer.status_code == 207
    assert [item["index"] for item in items if item.get("error")] == [1, 2, 3, 4]
    assert items[1]["error"]["errors"][0]["pointer"] == "/payload/failures"
    assert len(_ids(tag)) == 2


@pytest.mark.parametrize("tail", ["", ",", ", {", " {}", f', "{LONG}"]', "] x", ', "\\u"]', ', "\xff"]'])
def test_an_array_that_cannot_be_read_to_its_end_submits_nothing(api: Api, tail: str) -> None:
    """The fault lies behind what is written at a time."""
    good = json.dumps(tagged("broken array", 1500)).removesuffix("]")
    answer = api.post("tasks/bulk", content=(good + tail).encode("latin1"), headers=JSON)
    assert is_problem(answer, *((413, "too-large") if LONG in tail else (400, "malformed")))
    assert not _ids("broken array")


@pytest.mark.parametrize("tail", ["{", "\xff", f'{{"task_type": "{LONG}"}}', LONG, "[" * 100_000])
def test_a_line_that_cannot_be_read_is_answered_like_any_other(api: Api, tail: str) -> None:
    before = len(_ids("bad line"))
    good = lines(tagged("bad line", 1500))
    for last in (b"", b"\n" + lines(tagged("bad line", 1))):
        items = answered(api.post("tasks/bulk", content=good + tail.encode("latin1") + last, headers=NDJSON))
        assert [item["index"] for item in items] == list(range(1502 if last else 1501))
        assert [item["index"] for item in items if item.get("error")] == [1500]
    assert len(_ids("bad line")) == before + 3001


def test_a_line_may_be_as_long_as_an_entry(api: Api) -> None:
    short = lines([FLAKY])
    padded = [short.strip() + b" " * (LONGEST_ENTRY + more - len(short) + 1) + end for more, end in LENGTHS]
    sizes = [answered(api.post("tasks/bulk", content=body, headers=NDJSON))[0].get("error") for body in padded]
    assert [size and size["status"] for size in sizes] == [None, None, 413, 413]


@pytest.mark.parametrize("form", ["array", "lines"])
def test_a_body_over_the_limit_is_refused(api: Api, form: str) -> None:
    pieces = (b" " * 2**20 for _ in range(settings.API_BULK_LIMIT_BYTES // 2**20 + 1))
    answer = api.post("tasks/bulk", content=pieces, headers=NDJSON if form == "lines" else JSON)
    assert is_problem(answer, 413, "too-large") and f"{settings.API_BULK_LIMIT_BYTES:,}" in answer.json()["detail"]


def test_an_entry_that_is_nested_too_deeply_is_refused_alone(api: Api) -> None:
    nested: Any = 1
    for _ in range(70):
        nested = [nested]
    deep = {"task_type": "process_data", "payload": {"records": nested}}
    items = api.post("tasks/bulk", json=[FLAKY, deep]).json()["items"]
    assert [item.get("error") and item["error"]["status"] for item in items] == [None, 422]
    assert "64 levels" in items[1]["error"]["detail"]


def test_all_or_nothing_names_every_bad_entry_and_writes_nothing(api: Api) -> None:
    entries = [*tagged("all", 3), {"task_type": "x"}, FLAKY | {"priority": "x"}]
    answer = api.post("tasks/bulk?atomic=true", json=entries)
    assert is_problem(answer, 422, "invalid")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/3/task_type", "/4/priority"]
    assert not _ids("all")


def test_all_or_nothing_writes_all(api: Api) -> None:
    answer = api.post("tasks/bulk?atomic=true", json=tagged("atomic", 1500))
    assert answer.status_code == 202 and len(_ids("atomic")) == 1500


def test_all_or_nothing_counts_a_key_used_for_another_body_as_bad(api: Api) -> None:
    api.waiting(idempotency_key="taken")
    entries = [*tagged("with key", 2), FLAKY | {"payload": {"failures": 3}, "idempotency_key": "taken"}]
    assert is_problem(api.post("tasks/bulk?atomic=true", json=entries), 422, "key-reused")
    assert not _ids("with key")


def test_a_key_makes_one_job_within_and_between_requests(api: Api) -> None:
    entries = [FLAKY | {"idempotency_key": "bulk key"}] * 2
    first = api.post("tasks/bulk", json=entries).json()["items"]
    second = api.post("tasks/bulk", json=entries).json()["items"]
    assert len({item["task_id"] for item in [*first, *second]}) == 1
    assert [item["replayed"] for item in [*first, *second]] == [False, True, True, True]


def test_ten_thousand_are_the_most(api: Api) -> None:
    answer = api.post("tasks/bulk", json=tagged("most", 10_001))
    body = answer.json()
    assert (answer.status_code, body["accepted"], body["refused"]) == (207, 10_000, 1)
    assert body["items"][-1]["error"]["type"] == "urn:switchyard:problem:too-large"


@pytest.mark.parametrize("body", [b"[", b"[{}", b"[{} {}]", b'[{"a":', b"[{},]", b"{}", b"5", b"\xff", b"[\xff]"])
def test_an_array_that_is_none_is_refused(api: Api, body: bytes) -> None:
    answer = api.post("tasks/bulk", content=body, headers=JSON)
    assert answer.status_code in (400, 422) and answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(("body", "headers"), [(b"[]", JSON), (b"", JSON), (b"", NDJSON), (b"\n\n", NDJSON)])
def test_no_jobs_at_all_is_refused(api: Api, body: bytes, headers: dict) -> None:
    assert is_problem(api.post("tasks/bulk", content=body, headers=headers), 422, "invalid")


def test_characters_cut_in_two_by_a_chunk_are_read(api: Api) -> None:
    """Three bytes a character, so that some character lies across every border of 64 kB."""
    job = {
        "task_type": "always_fails",
        "payload": {"message": "€" * 30_000},
        "run_at": FLAKY["run_at"],
        "tags": ["euro"],
    }
    answer = api.post("tasks/bulk", content=json.dumps([job] * 9, ensure_ascii=False).encode(), headers=JSON)
    assert answer.status_code == 202, answer.text
    assert set(Job.objects.filter(tags=["euro"]).values_list("payload__message", flat=True)) == {"€" * 30_000}


def _ids(tag: str) -> list[Any]:
    return list(Job.objects.filter(labels__label=f"tag:{tag}").values_list("pk", flat=True))
