"""One real PostgreSQL and one real Redis for the whole run; processes where a story needs them."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings
from django.core.management import call_command
from django.test.utils import setup_databases, teardown_databases

import config.urls  # noqa: F401  as in the web: the admin's pages come with the addresses
from jobs import connections, tickets
from local.account import reachable_home
from local.postgres import Postgres
from local.readiness import free_port
from local.testing import POSTGRES_SETTINGS
from local.valkey import Valkey
from tests import emptying
from tests.fleet import Fleet
from tests.making import make_worker
from tests.site import Site, pointed_at, prepare


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None, django_db_blocker: Any, django_db_modify_db_settings: None
) -> Iterator[None]:
    """The test database, also for stories, which carry no django_db mark because nothing may empty their tables."""
    with django_db_blocker.unblock():
        emptying.quickly()
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
            empty_tables()


@pytest.fixture(scope="session")
def own_servers(django_test_environment: None, django_db_blocker: Any) -> Iterator[tuple[Postgres, Valkey]]:
    """A pair of servers beside the run's own, for tests that stop or freeze them."""
    directory = Path(tempfile.mkdtemp(prefix="switchyard-chaos-"))
    # Passable for the account of a database server started by root.
    directory.chmod(0o711)
    postgres = Postgres(directory / "postgres", settings=POSTGRES_SETTINGS)
    with postgres, Valkey(directory / "valkey", port=free_port()) as valkey:
        with django_db_blocker.unblock(), pointed_at(postgres, valkey):
            prepare()
        yield postgres, valkey
    shutil.rmtree(reachable_home(directory / "postgres"), ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def site(own_servers: tuple[Postgres, Valkey], django_db_blocker: Any, tmp_path_factory: Any) -> Iterator[Site]:
    """These servers, emptied, and a fleet of the module's own."""
    with django_db_blocker.unblock(), pointed_at(*own_servers):
        place = Site(*own_servers, Fleet(tmp_path_factory.mktemp("logs")))
        place.redis.flushall()
        try:
            yield place
        finally:
            place.fleet.stop()
            empty_tables()


def empty_tables() -> None:
    connections.close_own()
    call_command("flush", interactive=False, verbosity=0)
