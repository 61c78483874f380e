"""Every manage.py command of docs/runbook.md is run against a system in trouble; the other commands exist."""

import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import yaml
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from deadletters.models import DeadLetter
from monitoring.conditions import CONDITIONS
from tests.fleet import ROOT, Fleet, database_url
from tests.making import make_job
from tests.monitoring.making import make_attempt, make_finished, make_letter

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", RUNBOOK, re.MULTILINE | re.DOTALL)
COMMANDS = list(dict.fromkeys(line for block in BLOCKS for line in block.splitlines()))
COMPOSE = re.findall(r"`(docker compose [^`]+)`", RUNBOOK)
INLINE = dict.fromkeys(re.findall(r"`((?:python|python3|celery) [^`]+)`", RUNBOOK))
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


def test_what_is_run_in_a_container_does_what_it_is_for(broker: redis.Redis) -> None:
    inside = [line.partition(" exec ")[2].split() for line in COMPOSE if " exec " in line and "manage.py" not in line]
    assert inside == [["redis", "valkey-cli", "FLUSHALL"]]
    broker.set("a ticket of", "another time")
    broker.execute_command(*inside[0][2:])  # type: ignore[no-untyped-call]
    assert broker.dbsize() == 0


@pytest.mark.parametrize("line", [each for each in INLINE if " manage" not in each])
def test_every_other_program_can_be_run_like_this(line: str) -> None:
    program, *arguments = shlex.split(line)
    start = {"python": [sys.executable], "celery": [sys.executable, "-m", "celery"]}[program]
    environment = {**os.environ, "DATABASE_URL": database_url(), "REDIS_URL": settings.REDIS_URL}
    done = subprocess.run(
        [*start, *arguments, "--help"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "usage" in done.stdout.lower(), done.stderr


def test_both_ways_to_reach_manage_py_are_those_that_exist() -> None:
    assert [each for each in INLINE if " manage" in each] == ["python manage.py", "python3 dev.py manage ..."]
    usage = subprocess.run([sys.executable, "dev.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.search(r"^ +manage +run manage\.py", usage.stdout, re.MULTILINE)


SECTIONS = re.split(r"^## ", RUNBOOK, flags=re.MULTILINE)[1:]
NAMED = {section.partition("\n")[0]: section.partition("\n")[2] for section in SECTIONS}
ALERTS = [condition.name for condition in CONDITIONS]


def test_every_alert_has_a_section_that_says_what_it_is_and_then_the_first_command() -> None:
    assert [name for name in ALERTS if not re.match(r"\n(?:\w.*\n)+\n```sh\n", NAMED.get(name, ""))] == []


def test_every_section_says_how_to_see_that_it_worked() -> None:
    deeds = ["Redis lost its data", "PostgreSQL restored from backup", "Deploy without losing a job", "Upgrade"]
    assert len(ALERTS) == 13
    assert [name for name in [*ALERTS, *deeds] if "t worked when" not in NAMED[name]] == []


def test_links_inside_the_runbook_lead_somewhere() -> None:
    anchors = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", RUNBOOK)) <= anchors
    assert Path(ROOT / "CHANGELOG.md").exists()
