"""A real Prometheus beside the services, when one is installed: it scrapes the web process and judges the alerts."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from local.binaries import BinaryMissing
from local.place import CHECKOUT

RULES = CHECKOUT / "prometheus" / "alerts.yml"
DASHBOARD = CHECKOUT / "grafana" / "dashboards" / "switchyard.json"


def prometheus_command(home: Path, *, port: int, web_port: int, token_file: Path, every: str = "5s") -> list[str]:
    """The command of a Prometheus that keeps its data in `home`; raises BinaryMissing."""
    program = shutil.which("prometheus")
    if program is None:
        raise BinaryMissing("No prometheus was found on PATH. Install it (Debian's package has that name).")
    home.mkdir(parents=True, exist_ok=True)
    config = home / "prometheus.yml"
    # JSON is YAML.
    config.write_text(json.dumps(_config(web_port, token_file, every), indent=2))
    return [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={home / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]


def panels() -> dict[str, list[str]]:
    """The expressions of the dashboard by panel, with every variable at "All"."""
    board = json.loads(DASHBOARD.read_text())
    return {
        panel["title"]: [target["expr"].replace("$queue", ".*").replace("$task", ".*") for target in panel["targets"]]
        for panel in board["panels"]
        if panel["type"] != "row"
    }


def alerts() -> int:
    """How many rules there are to load."""
    return len(re.findall(r"^ *- alert:", RULES.read_text(), re.MULTILINE))


def _config(web_port: int, token_file: Path, every: str) -> dict[str, Any]:
    job = {
        "job_name": "switchyard",
        "authorization": {"credentials_file": str(token_file)},
        "static_configs": [{"targets": [f"127.0.0.1:{web_port}"]}],
    }
    return {
        "global": {"scrape_interval": every, "evaluation_interval": every, "scrape_timeout": every},
        "rule_files": [str(RULES)],
        "scrape_configs": [job],
    }
