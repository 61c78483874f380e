"""A fleet whose workers know the misbehaving tasks, and whose jobs are judged when a module ends."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tests.chaos import inside, oracle
from tests.fleet import Fleet

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def crew(fleet: Fleet, tmp_path_factory: Any) -> Iterator[Fleet]:
    """The module's fleet with a dispatcher, under the policies of tests/chaos; every invariant is asked at the end."""
    policies, before = tmp_path_factory.mktemp("policies") / "policies.toml", settings.POLICIES_FILE
    policies.write_text(before.read_text() + (HERE / "policies.toml").read_text())
    settings.POLICIES_FILE = policies
    # The import makes the tasks known here, where jobs are submitted; workers load the same module.
    assert inside.sleep.is_job
    fleet.environment |= {"POLICIES_FILE": str(policies), "TRAPS": "deaths", "CELERY_SKIP_CHECKS": "1"}
    oracle.begin()
    fleet.dispatcher()
    yield fleet
    settings.POLICIES_FILE = before
    oracle.judge(fleet.logs)
