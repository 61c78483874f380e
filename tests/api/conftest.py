"""A web process, a worker, a dispatcher and a beat for all tests of the API, and clients of them."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.conf import settings

from jobs import connections
from tests.api.calling import Api, token
from tests.conftest import empty_tables
from tests.fleet import Fleet

FREELY = {"API_RATE_PER_SECOND": "100000", "API_RATE_BURST": "100000", "WEB_THREADS": "8"}


@pytest.fixture(scope="package")
def house(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: Any) -> Iterator[Fleet]:
    """Every process of an installation; no table is emptied while they live."""
    with django_db_blocker.unblock():
        redis.Redis.from_url(settings.REDIS_URL).flushdb()
        ships = Fleet(tmp_path_factory.mktemp("logs"), **FREELY)
        try:
            ships.launch_worker("w", queues="high,default,low,solo,system", size=2)
            ships.dispatcher()
            ships.beat()
            ships.enlisted("w")
            yield ships
        finally:
            ships.stop()
            connections.close_own()
            empty_tables()


@pytest.fixture(scope="package")
def web(house: Fleet) -> str:
    """The address of a web process."""
    return house.web()


@pytest.fixture(scope="package")
def secret(house: Fleet) -> str:
    """A token that may everything."""
    return token()


@pytest.fixture
def api(web: str, secret: str) -> Iterator[Api]:
    """A client that may everything."""
    with Api(web, secret) as client:
        yield client
