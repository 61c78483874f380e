"""Replays of many letters: at their pace, over restarts, paused, aborted, each letter accounted for."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from django.db import connection

from deadletters.models import DeadLetter, ReplayItem, ReplayOperation
from jobs.bulk import submit_many
from jobs.drafting import draft
from jobs.models import Job
from tests.api.calling import Api, is_problem
from tests.fleet import Fleet
from tests.waiting import eventually

FAR = "2100-01-01T00:00:00Z"
BURY = """
WITH failed AS (
  UPDATE jobs_job SET state = 'FAILURE', finished_at = clock_timestamp(), attempt = 1 WHERE id = ANY(%s)
  RETURNING id, task, queue)
INSERT INTO deadletters_deadletter (job_id, attempt, task, queue, cause, reason, fingerprint, worker_name, created_at,
                                    resolved_by, resolved_reason)
SELECT id, 1, task, queue, 'EXHAUSTED', 'no luck', %s, '', clock_timestamp(), '', '' FROM failed
"""


def bury(count: int, group: str, task: str = "always_fails", payload: Any = None) -> list[DeadLetter]:
    """Letters as settlements would have written them, of jobs on a queue where nothing runs meanwhile."""
    drafts = [draft(task, payload or {"message": "x"}, queue="low", run_at=FAR) for _ in range(count)]
    ids = [written.job_id for written in submit_many(drafts)]
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE jobs_job DISABLE TRIGGER jobs_job_guard")
        cursor.execute(BURY, [ids, group])
        cursor.execute("ALTER TABLE jobs_job ENABLE TRIGGER jobs_job_guard")
    return list(DeadLetter.objects.filter(fingerprint=group))


@pytest.fixture(autouse=True)
def _nothing_of_theirs_runs(api: Api) -> Any:
    api.put("queues/low/pause", json={"reason": "replays are tested"})
    yield
    Job.objects.unfinished().filter(queue="low").cancel_waiting()
    api.delete("queues/low/pause")


def started(api: Api, group: str, **order: Any) -> int:
    answer = api.post("replays", json={"filter": {"fingerprint": group}, "reason": "fixed", **order})
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/api/replays/{answer.json()['id']}"
    return int(answer.json()["id"])


def seen(api: Api, replay: int, condition: Callable[[dict], Any], within: float = 60) -> dict:
    def now() -> dict:
        body = api.get(f"replays/{replay}").json()
        return body if condition(body) else {}

    return eventually(now, within=within, what=f"replay {replay}")


def test_a_replay_is_never_faster_than_its_pace(api: Api) -> None:
    """By PostgreSQL's clock, at every letter: none may go before those before it have had their time."""
    bury(400, "pace")
    replay = started(api, "pace", pace=200)
    seen(api, replay, lambda body: body["state"] == "DONE")
    first, *others = sorted(ReplayItem.objects.filter(operation=replay).values_list("at", flat=True))
    early = [number / 200 - (at - first).total_seconds() for number, at in enumerate(others, start=1)]
    assert max(early) < 0.01
    assert Job.objects.filter(letters__fingerprint="pace", state="PENDING").count() == 400


def test_every_letter_is_accounted_for(api: Api) -> None:
    letters = bury(5, "accounts")
    api.post(f"dead-letters/{letters[0].pk}/drop", json={"reason": "x"})
    replay = started(api, "accounts", pace=1000)
    body = seen(api, replay, lambda body: body["state"] == "DONE")
    assert (body["total"], body["done"], body["skipped"], body["waiting"]) == (4, 4, 0, 0)
    items = api.get(f"replays/{replay}/items").json()["items"]
    assert {(item["letter_id"], item["state"]) for item in items} == {(each.pk, "REPLAYED") for each in letters[1:]}
    letters[1].refresh_from_db()
    assert (letters[1].resolution, letters[1].resolved_reason, letters[1].operation_id) == ("REPLAYED", "fixed", replay)


def test_a_letter_resolved_meanwhile_is_skipped_with_its_reason(api: Api) -> None:
    letters = bury(3, "meanwhile")
    replay = started(api, "meanwhile", pace=1)
    last = max(letters, key=lambda letter: letter.pk)
    api.post(f"dead-letters/{last.pk}/drop", json={"reason": "x"})
    body = seen(api, replay, lambda body: body["state"] == "DONE")
    assert (body["done"], body["skipped"]) == (2, 1)
    [item] = api.get(f"replays/{replay}/items", params={"state": "SKIPPED"}).json()["items"]
    assert item["letter_id"] == last.pk and "dropped already by admin" in item["note"]


def test_a_patch_changes_every_payload_and_skips_what_it_breaks(api: Api) -> None:
    bury(2, "patch")
    bury(1, "patch", task="flaky", payload={"failures": 1})
    replay = started(api, "patch", pace=1000, patch={"message": "patched"})
    body = seen(api, replay, lambda body: body["state"] == "DONE")
    assert (body["done"], body["skipped"]) == (2, 1)
    letters = DeadLetter.objects.filter(fingerprint="patch", resolution="REPLAYED").select_related("job")
    assert [letter.job.payload for letter in letters] == [{"message": "patched"}] * 2
    assert {letter.payload_before["message"] for letter in letters} == {"x"}


def test_a_dry_run_counts_and_does_nothing(api: Api) -> None:
    letters = bury(3, "dry")
    order = {"filter": {"fingerprint": "dry"}, "reason": "x", "dry_run": True, "patch": {"message": 5}}
    answer = api.post("replays", json=order)
    body = answer.json()
    assert answer.status_code == 200 and body["total"] == 3
    assert set(body["refused"]) == {str(letter.pk) for letter in letters}
    assert DeadLetter.objects.open().filter(fingerprint="dry").count() == 3
    assert not ReplayOperation.objects.filter(filter__fingerprint="dry").exists()


def test_an_abort_takes_at_most_two_seconds(api: Api) -> None:
    bury(500, "abort")
    replay = started(api, "abort", pace=50)
    seen(api, replay, lambda body: body["done"] > 10)
    began = time.monotonic()
    body = api.post(f"replays/{replay}/abort").json()
    assert time.monotonic() - began < 2
    assert body["state"] == "ABORTED" and body["done"] + body["skipped"] == 500 and body["waiting"] == 0
    assert DeadLetter.objects.open().filter(fingerprint="abort").count() == body["skipped"] > 0
    after = eventually(lambda: Job.objects.filter(pk=ReplayOperation.objects.get(pk=replay).driver).first(), within=5)
    eventually(lambda: Job.objects.get(pk=after.pk).is_final, within=30, what="the driver to end")
    assert api.get(f"replays/{replay}").json()["done"] == body["done"]
    for verb in ("abort", "pause", "resume"):
        assert is_problem(api.post(f"replays/{replay}/{verb}"), 409, "conflict")


def test_a_paused_replay_stands_still_until_it_is_resumed(api: Api) -> None:
    bury(60, "pause")
    replay = started(api, "pause", pace=20)
    seen(api, replay, lambda body: body["done"] > 2)
    paused = api.post(f"replays/{replay}/pause").json()
    driver = ReplayOperation.objects.get(pk=replay).driver
    eventually(lambda: Job.objects.get(pk=driver).is_final, within=30, what="the driver to end")
    assert api.get(f"replays/{replay}").json()["done"] == paused["done"] and paused["state"] == "PAUSED"
    assert is_problem(api.post(f"replays/{replay}/pause"), 409, "conflict")
    api.post(f"replays/{replay}/resume")
    assert seen(api, replay, lambda body: body["state"] == "DONE")["done"] == 60


def test_a_replay_survives_the_death_of_its_worker(api: Api, house: Fleet) -> None:
    """Killed with its children in the middle of it; every letter is still replayed exactly once."""
    bury(200, "killed")
    replay = started(api, "killed", pace=50)
    seen(api, replay, lambda body: body["done"] > 10)
    for child in psutil.Process(house.pid("w")).children(recursive=True):
        os.kill(child.pid, signal.SIGKILL)
    house.kill("w")
    house.worker("w")
    assert seen(api, replay, lambda body: body["state"] == "DONE", within=90)["done"] == 200
    replays = Job.objects.filter(letters__fingerprint="killed", events__verb="replayed")
    assert replays.count() == replays.distinct().count() == 200


def test_a_replay_whose_driver_was_cancelled_is_adopted(api: Api) -> None:
    bury(20, "adopted")
    replay = started(api, "adopted", pace=0.02)
    first = eventually(lambda: _waiting_driver(replay), within=60, what="a driver that waits for the next letter")
    api.delete(f"tasks/{first}/cancel")
    api.followed(api.submitted("resume_replays"))
    second = ReplayOperation.objects.get(pk=replay).driver
    assert second != first
    api.post(f"replays/{replay}/abort")


def test_a_letter_is_in_one_replay_at_a_time(api: Api) -> None:
    bury(5, "once")
    first = started(api, "once", pace=0.1)
    second = api.post("replays", json={"filter": {"fingerprint": "once"}, "reason": "x"}).json()
    assert second["total"] <= 1
    api.post(f"replays/{first}/abort")


@pytest.mark.parametrize(
    ("order", "pointer"),
    [
        ({"filter": {}}, "/reason"),
        ({"reason": "x"}, "/filter"),
        ({"filter": {}, "reason": "x", "pace": 0}, "/pace"),
        ({"filter": {}, "reason": "x", "pace": "5"}, "/pace"),
        ({"filter": {"since": "x"}, "reason": "x"}, "/filter/since"),
        ({"filter": {"cause": "x"}, "reason": "x"}, "/filter/cause"),
        ({"filter": {"more": 1}, "reason": "x"}, "/filter/more"),
        ({"filter": {"letters": [0]}, "reason": "x"}, "/filter/letters/0"),
    ],
)
def test_a_wrong_order_is_refused_by_field(api: Api, order: Any, pointer: str) -> None:
    answer = api.post("replays", json=order)
    assert is_problem(answer, 422, "invalid") and answer.json()["errors"][0]["pointer"] == pointer


def _waiting_driver(replay: int) -> Any:
    driver = ReplayOperation.objects.get(pk=replay).driver
    return driver if Job.objects.filter(pk=driver, state="PENDING", run_at__gt=connection_now()).exists() else None


def connection_now() -> Any:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]
