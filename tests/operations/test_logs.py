"""What a real worker writes while jobs run: JSON, and every line names its job."""

import json
from typing import Any

import pytest

from jobs.models import Job
from jobs.submission import submit
from tests.fleet import Fleet
from tests.operations import talking_tasks
from tests.waiting import settled

FIELDS = ("job_id", "idempotency_key", "task", "queue", "attempt", "worker")
SECRET = "kept-out-of-every-log"


@pytest.fixture(scope="module")
def spoken(fleet: Fleet) -> tuple[list[dict[str, Any]], Job]:
    """The worker's lines, and the job that failed once before it succeeded."""
    fleet.environment["LOG_FORMAT"] = "json"
    fleet.dispatcher()
    fleet.worker(include=talking_tasks.__name__)
    job = settled(submit("talk", {"secret": SECRET, "failures": 1}, key="talk-1"))
    settled(submit("talk", {"secret": SECRET}))
    return [json.loads(line) for line in fleet.log("w").splitlines() if line.startswith("{")], job


def test_every_line_of_a_log_that_is_no_terminal_is_json(fleet: Fleet, spoken: Any) -> None:
    # Celery's banner is written past the logging of Python.
    lines = fleet.log("dispatcher").splitlines()
    assert lines and all(json.loads(line)["ts"] for line in lines)
    assert all({"ts", "level", "logger", "msg"} <= line.keys() for line in spoken[0])


SPEAKERS = ("a library", "celery's task logger", "the root", "a warning", "a print", "a thread")


@pytest.mark.parametrize("words", [f"from {each}" for each in SPEAKERS])
def test_lines_of_the_task_celery_and_libraries_name_the_job(words: str, spoken: Any) -> None:
    lines, job = spoken
    said = [line for line in lines if words in line["msg"] and line["job_id"] == str(job.pk)]
    assert [line["attempt"] for line in said] == [1, 2]
    for line in said:
        assert all(line[field] for field in FIELDS)
        assert (line["idempotency_key"], line["task"], line["queue"]) == ("talk-1", "talk", "default")


def test_every_transition_is_one_line(spoken: Any) -> None:
    lines, job = spoken
    told = [(line["msg"], line["attempt"], line.get("state")) for line in lines if line.get("job_id") == str(job.pk)]
    moves = [each for each in told if each[0] in ("job claimed", "job settled")]
    assert moves == [
        ("job claimed", 1, None),
        ("job settled", 1, "RETRY"),
        ("job claimed", 2, None),
        ("job settled", 2, "SUCCESS"),
    ]


def test_payloads_are_in_no_log(fleet: Fleet, spoken: Any) -> None:
    assert SECRET not in fleet.log("w")
    assert SECRET not in fleet.log("dispatcher")
