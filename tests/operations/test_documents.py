"""docs/settings.md against the code that reads settings, and links against files."""

import re

import pytest

from tests.fleet import ROOT

DOCUMENTS = ["runbook.md", "settings.md", "decisions.md", "operations.md"]


def test_every_setting_is_documented_and_nothing_else() -> None:
    source = "".join(path.read_text() for path in (ROOT / "config").glob("*.py"))
    read = set(re.findall(r'env_(?:text|list|bool|number)\(\s*"([A-Z_]+)"', source))
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE))
    assert documented == read


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_that_are_named_exist(name: str) -> None:
    text = (ROOT / "docs" / name).read_text()
    named = re.findall(r"`((?:config|docs|monitoring|jobs|prometheus|grafana|tests)/[\w./-]+)`", text)
    linked = [f"docs/{path}" for path in re.findall(r"\]\((\w+\.md)\)", text)]
    for path in [*named, *linked]:
        assert (ROOT / path).exists(), path
