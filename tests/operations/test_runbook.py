"""Every command of docs/runbook.md is run against a system in trouble; compose commands name what exists."""

import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from deadletters.models import DeadLetter
from tests.fleet import ROOT, Fleet
from tests.making import make_job
from tests.monitoring.making import make_attempt, make_finished, make_letter

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", RUNBOOK, re.MULTILINE | re.DOTALL)
COMMANDS = list(dict.fromkeys(line for block in BLOCKS for line in block.splitlines()))
COMPOSE = re.findall(r"`(docker compose [^`]+)`", RUNBOOK)
# In a system in trouble these say so by their exit code, and that is what they are asked for.
MAY_SAY_NO = ("doctor",)
LETTERS = [("flaky", "EXHAUSTED"), ("flaky", "EXHAUSTED"), ("crash", "POISON"), ("always_fails", "EXHAUSTED")]
SILENT = ("alive", "check", "shell", "migrate")
OPTIONS_WITH_VALUE = ("--scale", "--tail")


def run(line: str, **known: str) -> tuple[int, str]:
    """As the shell would, with the values that the reader puts in, but in this process: exit code and output."""
    words = [re.sub(r"\$([A-Z_]+)", lambda name: known[name[1]], word) for word in shlex.split(line)]
    assert words[:2] == ["python", "manage.py"], line
    output = io.StringIO()
    try:
        call_command(*words[2:], stdout=output, stderr=output)
    except CommandError as error:
        return error.returncode, f"{output.getvalue()}{error}"
    except SystemExit as stop:
        return int(stop.code or 0), output.getvalue()
    return 0, output.getvalue()


def letter(task: str, cause: str) -> DeadLetter:
    job = make_finished(task, state="FAILURE", at=timezone.now(), payload={"failures": 0} if task == "flaky" else {})
    make_attempt(job, 1, "FAILURE", at=timezone.now())
    return make_letter(job, at=timezone.now(), cause=cause)


@pytest.fixture(scope="module")
def trouble(fleet: Fleet) -> Iterator[dict[str, str]]:
    """Letters, waiting jobs, a customer, a forgotten transaction, and a web process that answers."""
    web = fleet.web(ALLOWED_HOSTS="127.0.0.1")
    letters = [letter(task, cause) for task, cause in LETTERS]
    make_finished("process_payment", at=timezone.now(), payload={"user_id": "usr_7"})
    make_job(queue="low")
    with psycopg.connect(**_parameters()) as forgotten:
        forgotten.execute("SELECT 1")
        yield {
            "LETTER": str(letters[-1].pk),
            "TASK": "flaky",
            "PID": str(forgotten.info.backend_pid),
            "CUSTOMER": "usr_7",
            "WEB_URL": web,
        }
        forgotten.close()


def _parameters() -> dict[str, Any]:
    given = connection.get_connection_params()
    return {key: given[key] for key in ("dbname", "user", "password", "host", "port") if key in given}


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_runbook_works(line: str, trouble: dict[str, str]) -> None:
    code, output = run(line, **trouble)
    assert code in ((0, 1) if line.split()[2] in MAY_SAY_NO else (0,)), output
    assert output.strip() or line.split()[2] in SILENT


@pytest.mark.parametrize("line", COMPOSE)
def test_every_compose_command_names_services_that_exist(line: str) -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    words = iter(shlex.split(line)[2:])
    verb = next(words)
    assert verb in ("up", "run", "exec", "stop", "restart", "logs", "ps")
    named = []
    for word in words:
        if word in OPTIONS_WITH_VALUE:
            named += [part.partition("=")[0] for part in [next(words)] if "=" in part]
        elif not word.startswith("-"):
            named.append(word)
            if verb in ("exec", "run"):
                break
    assert set(named) <= services.keys(), line


def test_every_section_says_how_to_see_that_it_worked() -> None:
    sections = re.split(r"^## ", RUNBOOK, flags=re.MULTILINE)[1:]
    alerts = [section for section in sections if re.match(r"\w+\n", section) and not section.startswith("Upgrade")]
    assert len(alerts) == 13
    assert [section.split("\n")[0] for section in alerts if "t worked when" not in section] in ([], ["TargetAbsent"])


def test_links_inside_the_runbook_lead_somewhere() -> None:
    anchors = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", RUNBOOK)) <= anchors
    assert Path(ROOT / "CHANGELOG.md").exists()
