"""docs/guarantees.md names tests that exist, and has every scenario."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text()
SCENARIOS = 60


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize("place", sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", PAGE))))
def test_what_shows_a_guarantee_exists(place: str) -> None:
    path, _, name = place.partition("::")
    found = names_in(ROOT / path) if "/test_" in path else {name}
    assert found
    assert not name or name in found


def test_every_scenario_has_its_row() -> None:
    rows = re.findall(r"^\| (\d+(?:, \d+)*) \|", PAGE, flags=re.MULTILINE)
    assert sorted(int(number) for row in rows for number in row.split(", ")) == list(range(1, SCENARIOS + 1))


def test_every_name_of_a_test_is_written_with_its_file() -> None:
    assert re.findall(r"(?<!::)(?<!/)\btest_\w+(?!\.py)\b", PAGE) == []
