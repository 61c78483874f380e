"""`python -m local.metrics`: has Prometheus loaded every rule, and data for every panel of the dashboard?"""

import argparse
import json
import math
import sys
import time
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

from local.prometheus import alerts, panels

_open = build_opener(ProxyHandler({})).open


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="local.metrics")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--within", type=float, default=180.0, help="seconds to wait for the last panel's data")
    options = parser.parse_args(arguments)
    deadline = time.monotonic() + options.within
    while ((lacking := missing(options.port)) or rules(options.port) < alerts()) and time.monotonic() < deadline:
        time.sleep(1)
    loaded, found = rules(options.port), len(panels()) - len(lacking)
    print(f"metrics: {loaded} of {alerts()} rules loaded, {found} of {len(panels())} panels with data")
    for title in lacking:
        print(f"  no data: {title}")
    return 1 if lacking or loaded < alerts() else 0


def missing(port: int) -> list[str]:
    """Panels with an expression that has no data."""
    return [title for title, expressions in panels().items() if not all(_has_data(port, each) for each in expressions)]


def rules(port: int) -> int:
    """Rules that were loaded and evaluated without an error."""
    groups = ask(port, "rules").get("groups", [])
    return sum(rule["health"] == "ok" for group in groups for rule in group["rules"])


def ask(port: int, what: str, **parameters: str) -> dict[str, Any]:
    """Prometheus' answer, empty while it does not give one."""
    try:
        with _open(f"http://127.0.0.1:{port}/api/v1/{what}?{urlencode(parameters)}", timeout=10) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
            return data
    except (URLError, OSError):
        return {}


def _has_data(port: int, expression: str) -> bool:
    found = ask(port, "query", query=expression).get("result", [])
    return any(not math.isnan(float(sample["value"][1])) for sample in found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
