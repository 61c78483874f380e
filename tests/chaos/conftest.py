"""A fleet whose workers know the misbehaving tasks, and whose jobs are judged when a module ends."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings

from tests.chaos import inside, oracle
from tests.fleet import Fleet

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def crew(fleet: Fleet, tmp_path_factory: Any) -> Iterator[Fleet]:
    """The module's fleet with a dispatcher, under the policies of tests/chaos; every invariant is asked at the end."""
    policies = tmp_path_factory.mktemp("policies") / "policies.toml"
    policies.write_text(settings.POLICIES_FILE.read_text() + (HERE / "policies.toml").read_text())
    # The import makes the tasks known here, where jobs are submitted; workers load the same module.
    assert inside.sleep.is_job
    fleet.environment |= {"POLICIES_FILE": str(policies), "TRAPS": "deaths", "CELERY_SKIP_CHECKS": "1"}
    oracle.begin()
    fleet.dispatcher()
    with override_settings(POLICIES_FILE=policies):
        yield fleet
    oracle.judge(fleet.logs)
