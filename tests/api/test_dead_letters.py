"""Dead letters over HTTP: found, grouped, replayed with other arguments, dropped."""

from typing import Any

import pytest

from deadletters.models import DeadLetter
from jobs.models import Job
from tests.api.calling import Api, is_problem, person, session, token
from tests.making import force_state
from tests.waiting import eventually


@pytest.fixture
def letter(api: Api) -> DeadLetter:
    """Of a job that has really failed for good."""
    task_id = api.waiting(task="always_fails", payload={"message": "no luck"})
    Job.objects.filter(pk=task_id).update(max_retries=0)
    api.post(f"tasks/{task_id}/retry")
    return eventually(lambda: DeadLetter.objects.open().filter(job=task_id).first(), within=30, what="a letter")


def test_a_letter_is_listed_grouped_and_shown(api: Api, letter: DeadLetter) -> None:
    listed = api.get("dead-letters", params={"task_id": str(letter.job_id)}).json()["items"]
    assert [(each["id"], each["cause"], each["resolution"]) for each in listed] == [(letter.pk, "EXHAUSTED", None)]
    group = next(each for each in api.get("dead-letters/groups").json() if each["fingerprint"] == letter.fingerprint)
    assert group["count"] >= 1 and group["first"] <= group["last"] and group["sample"]["id"] >= letter.pk
    shown = api.get(f"dead-letters/{letter.pk}").json()
    assert (shown["status"], shown["payload"]) == ("FAILURE", {"message": "no luck"})
    assert "RuntimeError: no luck" in shown["traceback"]


def test_a_letter_is_replayed_once(api: Api, letter: DeadLetter) -> None:
    answer = api.post(f"dead-letters/{letter.pk}/replay", json={"reason": "fixed"})
    assert answer.status_code == 202 and answer.json()["task_id"] == str(letter.job_id)
    assert answer.json()["replayed"] == 1
    again = api.post(f"dead-letters/{letter.pk}/replay", json={"reason": "fixed"})
    assert is_problem(again, 409, "conflict")
    letter.refresh_from_db()
    assert (letter.resolution, letter.resolved_by, letter.resolved_reason) == (
        "REPLAYED",
        "admin (token test)",
        "fixed",
    )


def test_other_arguments_are_checked_and_both_are_kept(api: Api, letter: DeadLetter) -> None:
    wrong = api.post(f"dead-letters/{letter.pk}/replay", json={"reason": "x", "payload": {"message": 5}})
    assert is_problem(wrong, 422, "invalid") and wrong.json()["errors"][0]["pointer"] == "/payload/message"
    right = api.post(f"dead-letters/{letter.pk}/replay", json={"reason": "x", "payload": {"message": "better"}})
    assert right.status_code == 202 and right.json()["payload"] == {"message": "better"}
    shown = api.get(f"dead-letters/{letter.pk}").json()
    assert (shown["payload_before"], shown["payload_after"]) == ({"message": "no luck"}, {"message": "better"})


def test_a_dropped_letter_stays_dropped(api: Api, letter: DeadLetter) -> None:
    answer = api.post(f"dead-letters/{letter.pk}/drop", json={"reason": "hopeless"})
    assert (answer.status_code, answer.json()["resolution"], answer.json()["status"]) == (200, "DROPPED", "FAILURE")
    assert is_problem(api.post(f"dead-letters/{letter.pk}/replay", json={"reason": "x"}), 409, "conflict")
    assert is_problem(api.post(f"dead-letters/{letter.pk}/drop", json={"reason": "x"}), 409, "conflict")


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": 5}, {"reason": "x", "more": 1}])
def test_a_decision_needs_a_reason(api: Api, letter: DeadLetter, body: Any) -> None:
    for verb in ("replay", "drop"):
        assert is_problem(api.post(f"dead-letters/{letter.pk}/{verb}", json=body), 422, "invalid")


def test_a_mask_that_is_sent_back_keeps_what_is_stored(web: str, api: Api) -> None:
    mail = {"to": "a@example.com", "subject": "s", "body": "the secret"}
    task_id = api.waiting(task="send_email", payload=mail)
    letter = _buried(task_id)
    with Api(web, token("read")) as reader:
        assert reader.get(f"dead-letters/{letter.pk}").json()["payload"]["body"] == "••••"
    person("mender", "deadletters.replay_deadletter", "deadletters.edit_payload", "deadletters.view_deadletter")
    with session(web, "mender") as browser:
        answer = browser.get(f"dead-letters/{letter.pk}")
        assert answer.status_code == 200, answer.text
        shown = answer.json()["payload"]
        edited = shown | {"subject": "mended"}
        body = {"reason": "x", "payload": edited}
        answer = browser.post(f"dead-letters/{letter.pk}/replay", json=body, headers=browser.csrf)
    assert answer.status_code == 202 and answer.json()["payload"]["body"] == "••••"
    assert Job.objects.get(pk=task_id).payload == mail | {"subject": "mended"}


def test_editing_needs_a_permission_of_its_own(web: str, letter: DeadLetter) -> None:
    person("replayer", "deadletters.replay_deadletter")
    with session(web, "replayer") as browser:
        body = {"reason": "x", "payload": {"message": "y"}}
        answer = browser.post(f"dead-letters/{letter.pk}/replay", json=body, headers=browser.csrf)
    assert is_problem(answer, 403, "forbidden") and "edit_payload" in answer.json()["detail"]


def _buried(task_id: str) -> DeadLetter:
    """A letter written as a settlement would; the mail itself must not be sent."""
    job = Job.objects.get(pk=task_id)
    force_state(job, "FAILURE", finished_at=job.created_at)
    return DeadLetter.objects.create(
        job=job, attempt=1, task=job.task, queue=job.queue, cause="EXHAUSTED", reason="x", fingerprint="f"
    )
