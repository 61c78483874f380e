import os
import signal
import subprocess
import sys

import pytest

from local.place import CHECKOUT

SUITE = """
import os, pathlib, psycopg, redis

def test_the_servers_answer():
    assert os.environ["DEBUG"] == "0"
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("off",)
    assert redis.Redis.from_url(os.environ["REDIS_URL"]).ping()

def test_that_fails():
    assert False

def test_that_writes_down_what_was_not_run():
    path = pathlib.Path(os.environ["SWITCHYARD_DATA"]) / "not-run.txt"
    path.write_text("3 tests need promtool: apt-get install prometheus")

def test_that_waits_for_a_signal():
    import signal
    print("waiting", flush=True)
    signal.pause()
"""


@pytest.fixture
def run_suite(place):
    """`dev.py test` on a small suite that knows nothing of Django, in a state directory of its own."""
    suite = place / "suite"
    suite.mkdir()
    (suite / "test_small.py").write_text(SUITE)
    (suite / "pytest.ini").write_text("[pytest]\n")
    (place / "tmp").mkdir(mode=0o711)
    own = {"SWITCHYARD_DATA": str(place), "TMPDIR": str(place / "tmp"), "DATABASE_URL": "", "REDIS_URL": ""}

    def run(selection):
        arguments = ["-q", "-s", "-p", "no:django", "-c", suite / "pytest.ini", suite, "-k", selection]
        return subprocess.Popen(
            [sys.executable, "-m", "local.testing", *arguments],
            cwd=CHECKOUT,
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return run


def test_the_suite_gets_servers_of_its_own_and_its_exit_code_is_passed_on(run_suite, place):
    suite = run_suite("not waits")
    said = suite.communicate(timeout=60)[0]
    assert "1 failed, 2 passed" in said
    assert suite.returncode == 1
    assert said.rstrip().endswith("Not run here:\n3 tests need promtool: apt-get install prometheus")
    assert list((place / "tmp").iterdir()) == []


def test_a_stop_request_ends_the_suite_and_its_servers(run_suite, place):
    suite = run_suite("waits")
    while "waiting" not in suite.stdout.readline():
        assert suite.poll() is None
    suite.send_signal(signal.SIGINT)
    suite.communicate(timeout=60)
    assert suite.returncode != 0
    assert list((place / "tmp").iterdir()) == []
