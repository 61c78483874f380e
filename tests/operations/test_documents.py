"""docs/settings.md against the code that reads settings, and links against files."""

import ast
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fleet import ROOT

DOCUMENTS = ["runbook.md", "settings.md", "decisions.md", "operations.md"]
# What a default that means something else is called.
IN_WORDS = {
    "EMAIL_URL": ("", "terminal"),
    "API_BULK_LIMIT_BYTES": (32 * 2**20, "32 MB"),
    "RETENTION_DAYS_SUCCESS": (0, "`RETENTION_DAYS`"),
    "RETENTION_DAYS_REVOKED": (0, "`RETENTION_DAYS`"),
    "RETENTION_DAYS_FAILURE": (0, "`RETENTION_DAYS`"),
}
COMPUTED = {"SECRET_KEY", "DATA_DIR", "POLICIES_FILE", "WEBHOOK_SECRET", "PIPELINE_ROOTS", "LOG_FORMAT"}


def settings_read() -> Iterator[tuple[str, ast.expr]]:
    """Every variable that config/ reads, and the expression of its default."""
    for path in (ROOT / "config").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name(id=reader) | ast.Attribute(attr=reader), args=[ast.Constant(name), *rest]):
                    if re.fullmatch("env_(text|list|bool|number)", reader):
                        yield name, rest[0] if rest else ast.Constant("")


def in_the_table(default: Any) -> str:
    if default == "":
        return "none"
    return (
        f"`{int(default) if isinstance(default, bool) else f'{default:g}' if isinstance(default, float) else default}`"
    )


def value_of(expression: ast.expr) -> Any:
    """None where it is not written out."""
    match expression:
        case ast.Constant(value):
            return value
        case ast.BinOp(left, ast.Mult(), right):
            return value_of(left) * value_of(right)


def test_every_setting_is_documented_with_its_default_and_nothing_else() -> None:
    table = (ROOT / "docs" / "settings.md").read_text()
    documented = dict(re.findall(r"^\| `([A-Z_]+)` \| (.*?) \|", table, re.MULTILINE))
    defaults = {name: value_of(expression) for name, expression in settings_read()}
    assert documented.keys() == defaults.keys()
    written = {name: default for name, default in defaults.items() if default is not None}
    assert defaults.keys() - written.keys() == COMPUTED
    for name, default in written.items():
        assert (default, documented[name]) == IN_WORDS.get(name, (default, in_the_table(default))), name


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_that_are_named_exist(name: str) -> None:
    text = (ROOT / "docs" / name).read_text()
    named = re.findall(r"`((?:config|docs|monitoring|jobs|prometheus|grafana|tests)/[\w./-]+)`", text)
    linked = [f"docs/{path}" for path in re.findall(r"\]\((\w+\.md)\)", text)]
    for path in [*named, *linked]:
        assert (ROOT / path).exists(), path
