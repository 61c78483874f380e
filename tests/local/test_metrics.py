"""`python -m local.metrics` against a real Prometheus: it says no as long as a rule is missing."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local import metrics
from local.prometheus import alerts, prometheus_command
from local.readiness import free_port

pytestmark = [
    pytest.mark.needs_debian("prometheus"),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="Debian's package prometheus is not installed"),
]


@contextmanager
def prometheus(home: Path, *, rules: bool) -> Iterator[str]:
    """Its port. It scrapes nobody: what panels show is tested in tests/operations."""
    port = free_port()
    command = prometheus_command(home, port=port, web_port=free_port(), token_file=home / "token", every="1s")
    if not rules:
        config = home / "prometheus.yml"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"rule_files": []}))
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield str(port)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(("rules", "within", "code"), [(True, "60", 0), (False, "2", 1)])
def test_metrics_are_complete_only_with_every_rule(
    rules: bool, within: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(metrics, "panels", lambda: {"one": ["vector(1)"]})
    home = tmp_path / "prometheus"
    with prometheus(home, rules=rules) as port:
        assert metrics.main(["--port", port, "--within", within]) == code
    assert f"{alerts() if rules else 0} of {alerts()} rules loaded" in capsys.readouterr().out
