"""Policies are data, and a mistake in them is named by its line before anything starts."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from jobs import policies, registry

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "config" / "policies.toml"


def changed(tmp_path: Path, old: str, new: str) -> Path:
    assert old in SHIPPED.read_text()
    path = tmp_path / "policies.toml"
    path.write_text(SHIPPED.read_text().replace(old, new), errors="surrogateescape")
    return path


def line_of(path: Path, start: str) -> int:
    return next(n for n, line in enumerate(path.read_text(errors="replace").splitlines(), 1) if line.startswith(start))


def test_the_shipped_policies_are_sound() -> None:
    assert policies.problems(SHIPPED) == policies.unknown_tasks(SHIPPED, set(registry.tasks())) == []


@pytest.mark.parametrize(
    ("old", "new", "starts", "words"),
    [
        ('queue = "high"\nmax_retries = 5', 'queue = "hihg"\nmax_retries = 5', 'queue = "hihg"', "must be one of high"),
        ("max_retries = 8", "max_retries = -1", "max_retries = -1", "0 or more"),
        ("max_retries = 8", "max_retries = 2.5", "max_retries = 2.5", "whole number"),
        ("max_retries = 8", 'max_retries = "8"', 'max_retries = "8"', "whole number"),
        ("hard_limit = 1800", "hard_limit = 0", "hard_limit = 0", "more than 0"),
        ("max_retries = 8", "max_retires = 8", "max_retires", "is not a policy setting"),
        (
            "cap = 3600, jitter = 0.3",
            "cap = 3600",
            "backoff = { base = 2, factor = 2, cap = 3600 }",
            "base, factor, cap",
        ),
        ("hard_limit = 1800", 'hard_limit = "x"', 'hard_limit = "x"', "must be seconds"),
        ("hard_limit = 1800", "hard_limit = inf", "hard_limit = inf", "must be seconds"),
        ("soft_limit = 0", "", "[default]", "must set soft_limit"),
        ("[default]\n", "[defaults]\n", "#", "the table [default] is missing"),
        ("[default]\n", "loose = 3\n[default]\n", "loose", "stands in no table"),
        ("[flaky]", "[flaky", "[flaky", "not valid TOML"),
        ("[flaky]", "[fl\udcffaky]", "[fl", "not valid TOML"),
        ('redacted = ["body"]', 'redacted = "body"', 'redacted = "body"', "list of field names"),
        ('redacted = ["body"]', "redacted = 5", "redacted = 5", "list of field names"),
        ('delivery = "each"', 'delivery = "some"', "delivery", "must be one of"),
        ('delivery = "batch"', 'delivery = "batch"\nmax_deaths = 1', "[process_data]", "needs max_deaths of 2"),
        ('delivery = "batch"', 'delivery = "batch"\natomic = true', "[process_data]", "atomic needs delivery"),
        ('delivery = "batch"', 'delivery = "batch"\nrate = "5/s"', "[process_data]", "rate needs delivery"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, old: str, new: str, starts: str, words: str) -> None:
    path = changed(tmp_path, old, new)
    said = f"policies.toml line {line_of(path, starts)}: "
    with pytest.raises(ImproperlyConfigured) as refused:
        policies._load(path)
    assert any(line.startswith(said) and words in line for line in str(refused.value).splitlines()), refused.value


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"POLICIES_FILE .*/none\.toml does not exist"):
        policies._load(tmp_path / "none.toml")


def test_manage_py_check_refuses_a_table_that_names_no_task(tmp_path: Path, settings: Any) -> None:
    settings.POLICIES_FILE = changed(tmp_path, "[flaky]", "[flakky]")
    line = line_of(settings.POLICIES_FILE, "[flakky]")
    with pytest.raises(SystemCheckError, match=rf"policies.toml line {line}: \[flakky\] names no registered task"):
        call_command("check")


def test_no_process_starts_with_a_mistake(tmp_path: Path) -> None:
    """A wrong number stops the import of the project; a table without a task is for each process to look for."""
    for name in ("task", "number"):
        (tmp_path / name).mkdir()
    no_task = changed(tmp_path / "task", "[flaky]", "[flakky]")
    started = [
        start(changed(tmp_path / "number", "max_retries = 8", "max_retries = -8"), "manage.py", "check"),
        start(no_task, "-c", "import config.asgi"),
        start(no_task, "-m", "celery", "-A", "config", "worker"),
        start(no_task, "-m", "celery", "-A", "config", "beat"),
    ]
    for process in started:
        said = process.communicate(timeout=90)[0]
        assert process.returncode in (1, 2), (process.args, said)
        assert "policies.toml line " in said and "Traceback" not in said, (process.args, said)


def start(policies_file: Path, *command: str) -> "subprocess.Popen[str]":
    told = {"env": os.environ | {"POLICIES_FILE": str(policies_file)}, "cwd": ROOT, "text": True}
    return subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **told)


def test_a_task_without_a_table_gets_the_default() -> None:
    default = policies.policy("nobody")
    assert (default.queue, default.max_retries, default.max_deaths) == ("default", 5, 3)
    assert (default.backoff.base, default.backoff.factor, default.backoff.jitter) == (2, 2, 0.3)


@pytest.mark.parametrize(
    ("task", "queue", "max_retries"),
    [
        ("send_email", "high", 5),
        ("process_payment", "high", 3),
        ("generate_report", "low", 2),
        ("data_pipeline", "low", 2),
        ("process_data", "default", 3),
        ("deliver_webhook", "default", 8),
        *((name, "default", 3) for name in ("always_fails", "flaky", "crash", "slow")),
    ],
)
def test_every_shipped_task_has_its_queue_and_its_retries(task: str, queue: str, max_retries: int) -> None:
    assert (policies.policy(task).queue, policies.policy(task).max_retries) == (queue, max_retries)


def test_every_shipped_hard_limit_leaves_time_to_wait_for_the_database() -> None:
    assert all(policies.policy(name).hard_limit >= 300 for name in policies.tables())
