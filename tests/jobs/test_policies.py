"""Policies are data, and a mistake in them is named by its line before anything starts."""

from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from jobs import policies, registry

SHIPPED = Path(__file__).parents[2] / "config" / "policies.toml"


def problems(tmp_path: Path, **changes: str) -> list[str]:
    text = SHIPPED.read_text()
    for old, new in changes.pop("replace", {}).items() if "replace" in changes else ():
        text = text.replace(old, new)
    path = tmp_path / "policies.toml"
    path.write_text(text)
    return [f"{each.line}: {each.message}" for each in policies.problems(path, set(registry.tasks()))]


def line_of(path: Path, start: str) -> int:
    return next(n for n, line in enumerate(path.read_text().splitlines(), 1) if line.startswith(start))


def test_the_shipped_policies_are_sound(tmp_path: Path) -> None:
    assert problems(tmp_path) == []


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
        ("[flaky]", "[flakky]", "[flakky]", "names no registered task"),
        ('redacted = ["body"]', 'redacted = "body"', 'redacted = "body"', "list of field names"),
        ('delivery = "each"', 'delivery = "some"', "delivery", "must be one of"),
        ('delivery = "batch"', 'delivery = "batch"\nmax_deaths = 1', "[process_data]", "needs max_deaths of 2"),
        ('delivery = "batch"', 'delivery = "batch"\natomic = true', "[process_data]", "atomic needs delivery"),
        ('delivery = "batch"', 'delivery = "batch"\nrate = "5/s"', "[process_data]", "rate needs delivery"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, old: str, new: str, starts: str, words: str) -> None:
    found = problems(tmp_path, replace={old: new})
    line = line_of(tmp_path / "policies.toml", starts)
    assert any(each.startswith(f"{line}: ") and words in each for each in found), found


def test_text_that_is_not_toml_is_named_with_its_line(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, replace={"[flaky]": "[flaky"})
    assert "not valid TOML" in problem
    assert problem.startswith(f"{line_of(tmp_path / 'policies.toml', '[flaky')}: ")


def test_manage_py_check_refuses_to_go_on(tmp_path: Path, settings: Any) -> None:
    settings.POLICIES_FILE = tmp_path / "policies.toml"
    settings.POLICIES_FILE.write_text(SHIPPED.read_text().replace("max_retries = 8", "max_retries = -8"))
    with pytest.raises(SystemCheckError, match=r"policies.toml line \d+: \[deliver_webhook\] max_retries = -8"):
        call_command("check")


def test_a_task_without_a_table_gets_the_default() -> None:
    default = policies.policy("nobody")
    assert (default.queue, default.max_retries, default.max_deaths) == ("default", 5, 3)
    assert (default.backoff.base, default.backoff.factor, default.backoff.jitter) == (2, 2, 0.3)


def test_every_shipped_hard_limit_leaves_time_to_wait_for_the_database() -> None:
    assert all(policies.policy(name).hard_limit >= 300 for name in policies.tables())
