"""What a real worker writes while jobs run: JSON, and every line names its job."""

import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from config.env import env_text
from jobs.models import Job
from jobs.submission import submit
from tests.fleet import ROOT, Fleet, database_url
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


def test_a_worker_writes_one_line_for_every_transition(spoken: Any) -> None:
    lines, job = spoken
    told = [(line["msg"], line["attempt"], line.get("state")) for line in lines if line.get("job_id") == str(job.pk)]
    moves = [each for each in told if each[0] in ("job claimed", "job settled")]
    assert moves == [
        ("job claimed", 1, "STARTED"),
        ("job settled", 1, "RETRY"),
        ("job claimed", 2, "STARTED"),
        ("job settled", 2, "SUCCESS"),
    ]


def test_payloads_are_in_no_log(fleet: Fleet, spoken: Any) -> None:
    assert SECRET not in fleet.log("w")
    assert SECRET not in fleet.log("dispatcher")


@pytest.mark.parametrize(("given", "is_json"), [({}, False), ({"LOG_FORMAT": "json"}, True)])
def test_on_a_terminal_lines_are_for_people_unless_json_is_asked_for(
    given: dict[str, str], is_json: bool, fleet: Fleet
) -> None:
    code = "from jobs.submission import submit; submit('flaky', {'failures': 0})"
    [line] = [each for each in on_a_terminal("shell", "-c", code, **given).splitlines() if "submitted" in each]
    job = Job.objects.filter(task="flaky").latest("created_at")
    if is_json:
        assert {**json.loads(line), "ts": 0} == {
            "ts": 0, "level": "INFO", "logger": "jobs", "msg": "job submitted",
            "job_id": str(job.pk), "task": "flaky", "queue": "default", "state": "PENDING",
        }  # fmt: skip
    else:
        words = rf"\d\d:\d\d:\d\d INFO    job submitted  job_id={job.pk} task=flaky queue=default state=PENDING"
        assert re.fullmatch(words, line)


def test_a_progress_bar_is_not_written_through() -> None:
    said = on_a_terminal("submit_jobs", "--task", "flaky", "--count", "3", "--payload", '{"failures": 0}')
    assert "submitted: 3" in said and "jobs submitted" not in said


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """What `manage.py` writes when all of its streams are a terminal."""
    ours, theirs = pty.openpty()
    told = {"DATABASE_URL": database_url(), "REDIS_URL": settings.REDIS_URL, "DEBUG": "1", "DJANGO_COLORS": "nocolor"}
    inherited = {name: value for name, value in os.environ.items() if name != "LOG_FORMAT"}
    process = subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT, env=inherited | told | environment, stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    said = b""
    # Linux ends the reading of a terminal that nobody holds any more with EIO.
    with suppress(OSError), os.fdopen(ours, "rb", buffering=0) as terminal:
        while part := terminal.read(4096):
            said += part
    assert process.wait(timeout=60) == 0, said
    return said.decode()


def test_a_format_nobody_knows_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_FORMAT", "xml")
    with pytest.raises(ImproperlyConfigured, match="LOG_FORMAT='xml' must be one of plain, json"):
        env_text("LOG_FORMAT", "json", among=("plain", "json"))
