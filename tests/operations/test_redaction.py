"""What a policy redacts is in no line of the worker's log, however the task or a library writes it."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from api.masking import MASK
from jobs.models import Job
from jobs.redaction import Secrets
from jobs.submission import submit
from tests.fleet import Fleet
from tests.operations import talking_tasks
from tests.waiting import settled

POLICY = """
[confide]
redacted = ["password", "card", "pin"]
"""
PAYLOAD = {
    "password": 'quoted"\\tämö-secret',
    "card": {"number": "4111-1111-1111-1111", "holder": "Ada Lovelace", "cvc": "123"},
    "pin": 48213,
    "amount": 1234,
}


@pytest.fixture(scope="module")
def confided(fleet: Fleet, tmp_path_factory: Any) -> tuple[Job, str]:
    """The job, and everything its worker wrote."""
    policies = tmp_path_factory.mktemp("policies") / "policies.toml"
    policies.write_text(Path(settings.POLICIES_FILE).read_text() + POLICY)
    fleet.environment |= {"LOG_FORMAT": "json", "POLICIES_FILE": str(policies), "CELERY_SKIP_CHECKS": "1"}
    fleet.worker(include=talking_tasks.__name__)
    job = settled(submit("confide", PAYLOAD, key="the-key-of-Ada Lovelace"))
    assert job.state == "SUCCESS", job.traceback
    return job, fleet.log("w")


@pytest.fixture(scope="module")
def lines(confided: tuple[Job, str]) -> list[dict[str, Any]]:
    job, log = confided
    written = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [line for line in written if line.get("job_id") == str(job.pk)]


@pytest.mark.parametrize("secret", ["quoted", "ecret", "4111", "Lovelace", "48213,"])
def test_no_secret_is_in_any_line(secret: str, lines: list[dict[str, Any]]) -> None:
    said = [{name: text for name, text in line.items() if name != "idempotency_key"} for line in lines]
    assert len(said) >= 11
    assert secret not in json.dumps(said, ensure_ascii=False)


def test_lines_without_a_job_hold_no_secret_either(confided: tuple[Job, str]) -> None:
    job, log = confided
    others = [line for line in log.splitlines() if str(job.pk) not in line]
    assert others
    assert not any("quoted" in line or "4111" in line for line in others)


def test_what_is_no_secret_stays_readable(lines: list[dict[str, Any]]) -> None:
    told = {line["msg"]: line for line in lines}
    assert f"numbers {MASK}, 1234 and 482130" in told
    assert f"printed {MASK}" in told
    assert told["extras"]["pin"] == MASK
    assert told["extras"]["found"] == {"deep": [MASK, MASK]}
    assert told["job claimed"]["idempotency_key"] == "the-key-of-Ada Lovelace"


def test_a_traceback_and_a_stack_are_shown_without_the_secret(lines: list[dict[str, Any]]) -> None:
    [line] = [line for line in lines if line["msg"] == "caught"]
    assert line["exc_info"].startswith("Traceback") and line["exc_info"].endswith(f"ValueError: refused {MASK}")
    assert "confide" in line["stack_info"]


@pytest.mark.parametrize(
    ("value", "text", "shown"),
    [
        ("a b/c", "a%20b%2Fc", MASK),
        ("abc", "abc", "abc"),
        (True, "True", "True"),
        (123, "123", "123"),
        (1234, "1234 12345", f"{MASK} 12345"),
        (12.75, "12.75", MASK),
        ([["deep"]], "deep", MASK),
    ],
)
def test_which_spellings_are_found(value: Any, text: str, shown: str) -> None:
    assert Secrets({"outer": {"secret": value}}, ["secret"]).hidden(text) == shown


def test_of_two_secrets_that_overlap_nothing_is_left() -> None:
    assert Secrets({"secret": ["token", "token-suffix"]}, ["secret"]).hidden("token-suffix") == MASK
