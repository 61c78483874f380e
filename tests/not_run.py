"""What could not run on this machine is written down with what would allow it; `dev.py test` ends by showing it.

Where everything can be installed (SWITCHYARD_SKIPS_FAIL), a test left out for want of a package has failed.
"""

import os
from collections.abc import Generator

import pytest

from local.place import state_directory


def pytest_configure(config: pytest.Config) -> None:
    (state_directory() / "not-run.txt").unlink(missing_ok=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    packages = [package for mark in item.iter_markers("needs_debian") for package in mark.args]
    remedies = [f"apt-get install {' '.join(packages)}"] if packages else []
    remedies += [remedy for mark in item.iter_markers("needs") for remedy in mark.args]
    if report.skipped and remedies:
        with (state_directory() / "not-run.txt").open("a") as file:
            file.write(f"{report.nodeid}: {', '.join(remedies)}\n")
        if packages and os.environ.get("SWITCHYARD_SKIPS_FAIL"):
            report.outcome = "failed"
    return report
