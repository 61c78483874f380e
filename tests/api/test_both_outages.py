"""A PostgreSQL that is stopped and one that is frozen are told alike: to who opens a socket, and to Prometheus."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.api.calling import Api, person, session, token
from tests.api.conftest import FREELY
from tests.api.test_frozen import frozen, in_time
from tests.api.test_live import feed, run, ticks
from tests.site import Site
from tests.waiting import eventually

TRY_AGAIN = 1013
AT_ONCE = 20
Outage = Callable[[Site], AbstractContextManager[None]]
outages = pytest.mark.parametrize("outage", [Site.no_postgres, frozen], ids=["stopped", "frozen"])


class Closed(NamedTuple):
    code: int
    reason: str
    seconds: float


@pytest.fixture(scope="module")
def place(site: Site) -> Iterator[tuple[Site, Api]]:
    """A web process on servers that may go away, without a worker."""
    with Api(site.fleet.web(**FREELY), token()) as api:
        yield site, api


async def closed(web: str, secret: str, **headers: str) -> Closed:
    """How a socket that can be opened is closed before anything is said."""
    began = time.monotonic()
    async with feed(web, secret, **headers) as socket:
        with pytest.raises(ConnectionClosed) as end:
            await socket.recv()
    assert end.value.rcvd is not None
    return Closed(end.value.rcvd.code, end.value.rcvd.reason, time.monotonic() - began)


def cookie(api: Api) -> dict[str, str]:
    """What the admin's page would send."""
    person()
    with session(api.address) as browser:
        return {"Cookie": f"sessionid={browser.cookies['sessionid']}", "Origin": api.address}


@outages
def test_a_new_socket_is_closed_soon_and_told_why(place: tuple[Site, Api], outage: Outage) -> None:
    site, api = place
    callers: list[tuple[str, dict[str, str]]] = [(api.token, {}), ("", cookie(api))]
    before = len(site.fleet.log("web"))

    async def everybody() -> list[Closed]:
        alone = [await closed(api.address, secret, **headers) for secret, headers in callers]
        crowd = (closed(api.address, secret, **headers) for secret, headers in callers * AT_ONCE)
        return alone + await asyncio.gather(*crowd)

    with outage(site):
        ends = run(everybody)
    assert {(end.code, end.reason) for end in ends} == {(TRY_AGAIN, "The database does not answer.")}
    assert in_time([end.seconds for end in ends]), ends
    said = site.fleet.log("web")[before:]
    assert said.count("feed refused") == len(ends) and "ERROR" not in said and "Traceback" not in said
    for secret, headers in callers:
        eventually(lambda s=secret, h=headers: _looks(api.address, s, h), within=30, what="the feed")  # type: ignore[misc]


@outages
def test_a_page_of_another_site_is_still_refused(place: tuple[Site, Api], outage: Outage) -> None:
    site, api = place
    with outage(site), pytest.raises(InvalidStatus, match="HTTP 403"):
        run(lambda: closed(api.address, api.token, Origin="https://evil.example"))


@outages
def test_metrics_say_so_to_whoever_was_let_in_before(place: tuple[Site, Api], outage: Outage) -> None:
    site, api = place
    stranger = token("metrics")
    up = {"switchyard_database_up": 1.0, "switchyard_redis_up": 1.0, "switchyard_queue_depth": 0.0}
    eventually(lambda: scraped(api)[1].items() >= up.items(), within=30, what="the metrics")
    with outage(site):
        answers = [scraped(api) for _ in range(3)]
        unknown = httpx.get(f"{api.address}/metrics", headers=bearer(stranger), trust_env=False, timeout=60)
    for _, samples in answers:
        assert samples["switchyard_database_up"] == 0.0 and samples["switchyard_redis_up"] == 1.0
        assert "switchyard_queue_depth" not in samples
    assert in_time([seconds for seconds, _ in answers]), answers
    assert (unknown.status_code, unknown.text) == (503, "PostgreSQL does not answer.")
    eventually(lambda: scraped(api)[1].items() >= up.items(), within=30, what="the metrics to be back")


def scraped(api: Api) -> tuple[float, dict[str, float]]:
    """Seconds it took, and the last sample of every metric."""
    began = time.monotonic()
    answer = httpx.get(f"{api.address}/metrics", headers=bearer(api.token), trust_env=False, timeout=60)
    seconds = time.monotonic() - began
    assert answer.status_code == 200, answer.text
    families = text_string_to_metric_families(answer.text)
    return seconds, {sample.name: sample.value for family in families for sample in family.samples}


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def _looks(web: str, secret: str, headers: dict[str, str]) -> bool:
    try:
        return "at" in run(lambda: ticks(web, secret, 1, **headers))[0]
    except ConnectionClosed:
        return False


def test_a_socket_at_another_address_is_refused_without_a_word_in_the_log(place: tuple[Site, Api]) -> None:
    site, api = place
    before = len(site.fleet.log("web"))
    with pytest.raises(InvalidStatus, match="HTTP 403"):
        run(lambda: _opened(api.address.replace("http", "ws") + "/ws/nothing"))
    said = site.fleet.log("web")[before:]
    assert "ERROR" not in said and "Traceback" not in said


async def _opened(address: str) -> Any:
    async with connect(address, proxy=None):
        pass
