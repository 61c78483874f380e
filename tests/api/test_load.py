"""200 requests per second of mixed submits and statuses. The whole minute is `python -m tests.api.load`."""

import asyncio
import subprocess
import sys

import pytest

from tests.api.load import STATUS, SUBMIT, Load, load
from tests.fleet import ROOT

RATE, SECONDS = 200, 10
# The goal is 100 ms; other tests may run on the same two cores, and take them for a while.
P95, TRIES = 0.3, 3


def test_two_hundred_requests_a_second_are_answered_in_time(web: str, secret: str) -> None:
    results = []
    for _ in range(TRIES):
        results.append(asyncio.run(load(web, secret, rate=RATE, seconds=SECONDS, idle=True)))
        assert results[-1].errors == [] and len(results[-1].seconds) == RATE * SECONDS
        if results[-1].percentile(95) < P95:
            return
    raise AssertionError("; ".join(map(str, results)))


@pytest.mark.parametrize(
    ("slow", "errors", "is_good"), [(0.09, [], True), (0.11, [], False), (0.09, ["POST 503 b''"], False)]
)
def test_a_load_is_good_when_nothing_failed_and_few_waited(slow: float, errors: list[str], is_good: bool) -> None:
    """Of a hundred requests six took that long."""
    assert Load({SUBMIT: [0.01] * 94, STATUS: [slow] * 6}, errors).is_good is is_good


def test_the_command_fails_when_a_request_does(web: str) -> None:
    command = [sys.executable, "-m", "tests.api.load", web, "no-token", "--rate", "20", "--seconds", "0.2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1 and "errors 4" in done.stdout and "POST 401" in done.stdout, done.stderr
