"""Dead letters, replays and reports over HTTP: every filter narrows, and the pages together show all there is."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from deadletters.models import DeadLetter
from monitoring.models import Report
from tests.api.calling import Api
from tests.api.test_replays import bury, started

NOON = timezone.now().replace(microsecond=0) - timedelta(days=1)
HOUR = timedelta(hours=1)
# What narrows, and which of the open letters are left.
FILTERS: list[tuple[dict[str, str], set[str]]] = [
    ({}, {"early", "late"}),
    ({"task_type": "flaky"}, {"late"}),
    ({"queue": "high"}, {"late"}),
    ({"cause": "POISON"}, {"late"}),
    ({"since": NOON.isoformat()}, {"late"}),
    ({"until": NOON.isoformat()}, {"early"}),
    ({"task_type": "flaky", "until": NOON.isoformat()}, set()),
]
each_filter = pytest.mark.parametrize(("asked", "left"), FILTERS)


@pytest.fixture(scope="module")
def letters(house: Any) -> dict[int, str]:
    """Three of one fingerprint, by id; and one of another."""
    early, late, dropped = sorted(bury(3, "narrow"), key=lambda letter: letter.pk)
    bury(1, "narrow not")
    as_they_are = {
        early: {"created_at": NOON - HOUR},
        late: {"created_at": NOON + HOUR, "task": "flaky", "queue": "high", "cause": "POISON"},
        dropped: {"created_at": NOON + 2 * HOUR, "resolution": "DROPPED", "resolved_at": NOON + 3 * HOUR},
    }
    for letter, values in as_they_are.items():
        DeadLetter.objects.filter(pk=letter.pk).update(**values)
    return {early.pk: "early", late.pk: "late", dropped.pk: "dropped"}


@pytest.mark.parametrize(
    ("asked", "left"),
    [*FILTERS, ({"status": "all"}, {"early", "late", "dropped"}), ({"status": "resolved"}, {"dropped"})],
)
def test_every_filter_narrows_letters(api: Api, letters: dict[int, str], asked: dict[str, str], left: set[str]) -> None:
    items = api.get("dead-letters", params={"fingerprint": "narrow", **asked}).json()["items"]
    assert {letters[item["id"]] for item in items} == left


@each_filter
def test_every_filter_narrows_a_replay(
    api: Api, letters: dict[int, str], asked: dict[str, str], left: set[str]
) -> None:
    order = {"filter": {"fingerprint": "narrow", **asked}, "reason": "x", "dry_run": True}
    found = api.post("replays", json=order).json()
    assert found["total"] == len(left) and {letters[each["id"]] for each in found["sample"]} == left
    [first, *_] = letters
    chosen = api.post("replays", json=order | {"filter": {**order["filter"], "letters": [first]}}).json()  # type: ignore[dict-item]
    assert chosen["total"] == len(left & {"early"})


@each_filter
def test_every_filter_narrows_groups(api: Api, letters: dict[int, str], asked: dict[str, str], left: set[str]) -> None:
    found = {group["fingerprint"]: group for group in api.get("dead-letters/groups", params=asked).json()}
    assert found.get("narrow", {"count": 0})["count"] == len(left)


def test_a_group_says_how_many_since_when_and_until_when(api: Api, letters: dict[int, str]) -> None:
    [group] = [each for each in api.get("dead-letters/groups").json() if each["fingerprint"] == "narrow"]
    times = [datetime.fromisoformat(group[name]) for name in ("first", "last")]
    assert (group["count"], times) == (2, [NOON - HOUR, NOON + HOUR])
    assert letters[group["sample"]["id"]] == "late"


def test_the_pages_together_show_everything_once(api: Api) -> None:
    buried = {letter.pk for letter in bury(5, "pages", task="flaky", payload={"failures": 0})}
    replay = started(api, "pages", pace=0.01)
    others = {started(api, "no such fingerprint") for _ in range(4)}
    made = Report.objects.bulk_create(
        Report(kind="failures", period_start=NOON, period_end=NOON + number * HOUR) for number in range(5)
    )
    for path, wanted, asked in (
        ("dead-letters", buried, {"fingerprint": "pages", "status": "all"}),
        (f"replays/{replay}/items", buried, {}),
        ("replays", {replay, *others}, {}),
        ("reports", {report.pk for report in made}, {"kind": "failures"}),
    ):
        whole = ids(api.get(path, params={**asked, "limit": 200}).json())
        assert wanted <= set(whole) and paged(api, path, asked) == whole, path
    api.post(f"replays/{replay}/abort")
    Report.objects.filter(pk__in=[report.pk for report in made]).delete()


def paged(api: Api, path: str, asked: dict[str, str]) -> list[int]:
    """Two at a time, as far as `next` leads."""
    page = api.get(path, params={**asked, "limit": 2}).json()
    seen = ids(page)
    while page["next"]:
        page = api.get(path, params={**asked, "limit": 2, "cursor": page["next"]}).json()
        assert 1 <= len(page["items"]) <= 2
        seen += ids(page)
    return seen


def ids(page: dict[str, Any]) -> list[int]:
    return [item.get("id", item.get("letter_id")) for item in page["items"]]
