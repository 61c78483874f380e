import os
import signal
import subprocess
import sys

import pytest

from local.place import CHECKOUT

SUITE = """
import os, psycopg, pytest, redis

def test_the_servers_answer():
    assert os.environ["DEBUG"] == "0"
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("off",)
    assert redis.Redis.from_url(os.environ["REDIS_URL"]).ping()

def test_that_fails():
    assert False

@pytest.mark.needs_debian("promtool-of-old", "promtool")
def test_that_lacks_a_package():
    pytest.skip("no promtool")

@pytest.mark.needs("run as root")
def test_that_lacks_rights():
    pytest.skip("not root")

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
    (suite / "pytest.ini").write_text("[pytest]\naddopts = -p tests.not_run\nmarkers =\n  needs\n  needs_debian\n")
    (place / "tmp").mkdir(mode=0o711)
    own = {"SWITCHYARD_DATA": str(place), "TMPDIR": str(place / "tmp"), "DATABASE_URL": "", "REDIS_URL": ""}
    own["SWITCHYARD_SKIPS_FAIL"] = ""

    def run(selection, module="local.testing", **environment):
        arguments = ["-q", "-s", "-p", "no:django", "-c", suite / "pytest.ini", suite, "-k", selection]
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=CHECKOUT,
            env={**os.environ, **own, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return run


NOT_RUN = """
Not run here:
test_small.py::test_that_lacks_a_package: apt-get install promtool-of-old promtool
test_small.py::test_that_lacks_rights: run as root"""


def test_the_suite_gets_servers_of_its_own_and_ends_with_what_was_not_run_and_its_exit_code(run_suite, place):
    suite = run_suite("not waits")
    said = suite.communicate(timeout=60)[0]
    assert "1 failed, 1 passed, 2 skipped" in said
    assert suite.returncode == 1
    assert said.rstrip().endswith(NOT_RUN)
    assert list((place / "tmp").iterdir()) == []


@pytest.mark.parametrize(("told", "code", "counted"), [("", 0, "2 skipped"), ("1", 1, "1 failed, 1 skipped")])
def test_where_everything_can_be_installed_a_test_that_lacks_a_package_has_failed(run_suite, told, code, counted):
    suite = run_suite("lacks", module="pytest", SWITCHYARD_SKIPS_FAIL=told)
    assert counted in suite.communicate(timeout=60)[0]
    assert suite.returncode == code


def test_a_stop_request_ends_the_suite_and_its_servers(run_suite, place):
    suite = run_suite("waits")
    while "waiting" not in suite.stdout.readline():
        assert suite.poll() is None
    suite.send_signal(signal.SIGINT)
    suite.communicate(timeout=60)
    assert suite.returncode != 0
    assert list((place / "tmp").iterdir()) == []
