"""`manage.py dependencies` against an index of this test's own: licences, known faults, and an index that is away."""

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from local.readiness import free_port
from monitoring.dependencies import installed

FAULTS = [
    {"id": "PYSEC-1", "withdrawn": "2026-01-01T00:00:00Z", "fixed_in": []},
    {"id": "PYSEC-2", "fixed_in": ["99.1"], "summary": "It leaks.", "withdrawn": None},
]


class Index(BaseHTTPRequestHandler):
    """PyPI's JSON API: it knows what is in `faults`, and of all other packages that nothing is wrong."""

    faults: dict[str, list[dict[str, Any]] | None]

    def do_GET(self) -> None:
        _, _, name, _, _ = self.path.split("/")
        found = self.faults.get(name, [])
        body = json.dumps({"info": {}, "vulnerabilities": found}).encode()
        self.send_response(404 if found is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def index() -> Iterator[str]:
    Index.faults = {}
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def audited(index: str) -> tuple[int, str]:
    """Exit code and everything said."""
    output = io.StringIO()
    try:
        call_command("dependencies", "--audit", "--index", index, stdout=output, stderr=output)
    except CommandError as error:
        return error.returncode, f"{output.getvalue()}{error}"
    return 0, output.getvalue()


def test_every_package_states_a_licence() -> None:
    output = io.StringIO()
    call_command("dependencies", stdout=output)
    lines = output.getvalue().splitlines()
    assert any(line.split()[:2] == ["django", version("django")] and "BSD" in line for line in lines)
    assert not [line for line in lines if line.endswith("not stated")]


def test_a_known_fault_is_named_with_its_remedy(index: str) -> None:
    Index.faults = {"celery": FAULTS}
    code, said = audited(index)
    assert code == 1 and "PYSEC-2 (fixed in 99.1) It leaks." in said
    assert "PYSEC-1" not in said and f"{len(installed())} packages asked about, 1 faults" in said


def test_without_known_faults_it_says_how_many_it_asked_about(index: str) -> None:
    assert audited(index) == (0, f"{len(installed())} packages asked about, 0 faults\n")


def test_a_package_the_index_does_not_know_is_no_clean_one(index: str) -> None:
    Index.faults = {"celery": None}
    code, said = audited(index)
    assert code == 2 and "did not answer for celery" in said


def test_an_index_that_is_away_is_not_silence_about_faults() -> None:
    code, said = audited(f"http://127.0.0.1:{free_port()}")
    assert code == 2 and f"and {len(installed()) - 10} more: nothing is known about these" in said
