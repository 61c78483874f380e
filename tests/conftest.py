"""One real PostgreSQL and one real Redis for the whole run; processes where a story needs them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings
from django.core.management import call_command
from django.test.utils import setup_databases, teardown_databases

from jobs import connections, tickets
from tests.fleet import Fleet
from tests.making import make_worker

NOT_RUN = Path(".data/not-run.txt")


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None, django_db_blocker: Any, django_db_modify_db_settings: None
) -> Iterator[None]:
    """The test database, also for stories, which carry no django_db mark because nothing may empty their tables."""
    with django_db_blocker.unblock():
        before = setup_databases(verbosity=0, interactive=False, aliases={"default"}, serialized_aliases=set())
    yield
    with django_db_blocker.unblock():
        connections.close_own()
        teardown_databases(before, verbosity=0)


@pytest.fixture(autouse=True)
def clean_redis() -> Iterator[None]:
    """Tests that publish must not leave tickets for the next; stories keep theirs to themselves by their ids."""
    yield
    connections.close_own()
    tickets._publisher.cache_clear()


@pytest.fixture
def broker() -> Iterator[redis.Redis]:
    """The Redis of this run, emptied."""
    client = redis.Redis.from_url(settings.REDIS_URL)
    client.flushdb()
    yield client
    client.close()


@pytest.fixture
def at_work(transactional_db: None, broker: redis.Redis) -> Any:
    """This process as a worker that may claim."""
    return make_worker()


@pytest.fixture(scope="module")
def fleet(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: Any) -> Iterator[Fleet]:
    """A worker and a dispatcher shared by a module of stories; no table is emptied while they live."""
    with django_db_blocker.unblock():
        redis.Redis.from_url(settings.REDIS_URL).flushdb()
        ships = Fleet(tmp_path_factory.mktemp("logs"))
        try:
            yield ships
        finally:
            ships.stop()
            _empty_tables()


def _empty_tables() -> None:
    connections.close_own()
    call_command("flush", interactive=False, verbosity=0)


def pytest_configure(config: pytest.Config) -> None:
    NOT_RUN.unlink(missing_ok=True)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """What could not run here is written down, and where everything can be installed it is a failure."""
    if report.skipped and "needs_debian" in report.keywords:
        NOT_RUN.parent.mkdir(exist_ok=True)
        with NOT_RUN.open("a") as file:
            file.write(f"{report.nodeid}\n")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if os.environ.get("SWITCHYARD_SKIPS_FAIL") and NOT_RUN.exists() and exitstatus == 0:
        session.exitstatus = 1
