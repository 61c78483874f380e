"""The house rules, as far as a machine can hold them."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PACKAGES = ("api", "jobs", "deadletters", "monitoring", "config", "local")
FORBIDDEN_NAMES = {"utils", "helpers", "common", "core", "services", "managers", "manager", "base", "constants"}
LONGEST_FILE, LONGEST_FUNCTION, MOST_BROAD_EXCEPTS = 250, 30, 3


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-8000:]}\n{done.stderr[-4000:]}"


def sources() -> list[Path]:
    own = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "migrations" not in path.parts]
    return [*own, ROOT / "dev.py", ROOT / "manage.py"]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring and signature, which may be long for good reasons."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0  # type: ignore[operator]


def test_imports_run_one_way() -> None:
    run(str(BIN / "lint-imports"), "--no-cache")


def test_ruff_finds_nothing() -> None:
    run(str(BIN / "ruff"), "check", "--no-cache", ".")


def test_the_code_is_formatted() -> None:
    run(str(BIN / "ruff"), "format", "--no-cache", "--check", ".")


def test_the_types_hold() -> None:
    # Without a cache: django-stubs loses managers when it reads half of the project from one.
    run(str(BIN / "mypy"), "--cache-dir", os.devnull, *PACKAGES, "dev.py")


def test_no_migration_is_missing() -> None:
    run(sys.executable, "manage.py", "makemigrations", "--check", "--dry-run")


def test_django_and_the_policies_check_clean() -> None:
    run(sys.executable, "manage.py", "check", "--fail-level", "WARNING")


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short_and_named_for_what_happens_in_them(path: Path) -> None:
    assert path.stem not in FORBIDDEN_NAMES
    assert len(path.read_text().splitlines()) <= LONGEST_FILE
    for function in functions(path):
        assert code_lines(function) <= LONGEST_FUNCTION, f"{path.name}:{function.lineno} {function.name}"


def test_broad_excepts_are_counted_on_three_fingers() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or getattr(node.type, "id", "") in ("Exception", "BaseException"))
    ]
    assert len(found) <= MOST_BROAD_EXCEPTS, found


def test_state_is_written_in_one_module() -> None:
    """Outside querysets.py nobody assigns a job's state in SQL or through the ORM."""
    for path in sources():
        if path.relative_to(ROOT).as_posix() in ("jobs/querysets.py", "jobs/states.py"):
            continue
        text = path.read_text()
        assert "SET state" not in text or "jobs_worker" in text or "deadletters" in str(path), path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "update":
                names = {keyword.arg for keyword in node.keywords}
                assert "state" not in names or "Job.objects" not in ast.unparse(node), f"{path}:{node.lineno}"
