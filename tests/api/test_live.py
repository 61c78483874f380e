"""The live feed: every client gets every tick, one query per tick, and only those who may look."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from api.models import ApiToken
from monitoring.queues import WorkerStats, worker_stats
from monitoring.snapshot import snapshot
from tests.api.calling import Api, person, session, token
from tests.waiting import eventually

CLIENTS, TICKS = 300, 3


def feed(web: str, secret: str = "", **headers: str) -> Any:
    """A socket to the feed, not yet open."""
    given = ({"Authorization": f"Bearer {secret}"} if secret else {}) | headers
    address = web.replace("http", "ws") + "/ws/stats"
    return connect(address, additional_headers=given, proxy=None, open_timeout=60, ping_interval=None)


def run(work: Callable[[], Awaitable[Any]], within: float = 90) -> Any:
    return asyncio.run(asyncio.wait_for(work(), within))


async def ticks(web: str, secret: str, count: int, **headers: str) -> list[dict]:
    async with feed(web, secret, **headers) as socket:
        return [json.loads(await socket.recv()) for _ in range(count)]


def refused(web: str, secret: str = "", **headers: str) -> bool:
    with pytest.raises(InvalidStatus) as refusal:
        run(lambda: ticks(web, secret, 1, **headers))
    return refusal.value.response.status_code == 403


def test_a_snapshot_comes_every_two_seconds_without_being_asked(web: str, secret: str) -> None:
    first, second, third = run(lambda: ticks(web, secret, 3))
    assert set(first) >= set(worker_stats().__dict__) | {"at", "queues"}
    moments = [timezone.datetime.fromisoformat(each["at"]) for each in (first, second, third)]
    assert [(b - a).total_seconds() for a, b in pairwise(moments)] == pytest.approx([2, 2], abs=0.7)


def test_who_comes_after_a_while_gets_the_present(web: str, secret: str) -> None:
    run(lambda: ticks(web, secret, 1))
    eventually(_nobody_has_asked_for_a_while, within=60, what="a process that asks for nobody")
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        [opened] = cursor.fetchone()
    [frame] = run(lambda: ticks(web, secret, 1))
    assert timezone.datetime.fromisoformat(frame["at"]) > opened


def _nobody_has_asked_for_a_while() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'live snapshot|apitoken'"
            " AND query_start > clock_timestamp() - interval '6 s' AND pid <> pg_backend_pid()"
        )
        return bool(cursor.fetchone() == (0,))


def test_three_hundred_clients_get_every_tick_for_one_query_each(web: str, secret: str) -> None:
    """Each frame carries PostgreSQL's clock as its query read it: who shares a query shares the moment."""

    async def all_clients() -> list[list[dict]]:
        sockets = [feed(web, secret) for _ in range(CLIENTS)]
        open_sockets = [await each for each in sockets]
        gathered = await asyncio.gather(*(_until(each, TICKS) for each in open_sockets))
        await asyncio.gather(*(each.close() for each in open_sockets))
        return gathered

    frames = run(all_clients)
    assert len(frames) == CLIENTS
    moments = sorted({frame["at"] for client in frames for frame in client})
    for client in frames:
        mine = [frame["at"] for frame in client]
        assert mine == moments[moments.index(mine[0]) :][: len(mine)], "a client missed a tick"
    assert len(moments) <= TICKS + 2, "more than one query a tick"


def test_there_is_no_channel_layer() -> None:
    assert not hasattr(settings, "CHANNEL_LAYERS")


def test_a_snapshot_is_one_query(api: Api, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        snapshot()


async def _until(socket: Any, count: int) -> list[dict]:
    """What is waiting already, then `count` more."""
    return [json.loads(await socket.recv()) for _ in range(count)]


def test_the_snapshot_says_what_the_statistics_say(api: Api) -> None:
    api.followed(api.submitted())
    now, statistics = eventually(_both_while_nothing_moved, within=60, what="a moment in which no job moves")
    assert {name: now[name] for name in statistics.__dict__} == statistics.__dict__
    assert statistics.success_tasks > 0 and statistics.workers_online == 1


def _both_while_nothing_moved() -> tuple[dict, WorkerStats] | None:
    before, now, after = worker_stats(), snapshot(), worker_stats()
    return (now, before) if before == after else None


def test_without_credentials_nobody_looks(web: str) -> None:
    assert refused(web)
    assert refused(web, Origin=web)


@pytest.mark.parametrize("scopes", [("submit",), ("operate", "metrics")])
def test_a_token_needs_the_scope_read(web: str, scopes: tuple[str, ...]) -> None:
    assert refused(web, token(*scopes))


def test_an_unknown_expired_or_revoked_token_is_refused(web: str) -> None:
    revoked = token(name="to revoke on the feed")
    ApiToken.objects.filter(name="to revoke on the feed").update(revoked_at=timezone.now())
    for secret in ("nothing", token(expires_at=timezone.now()), revoked):
        assert refused(web, secret)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://127.0.0.1:1", "null", "http://127.0.0.1.evil.example"]
)
def test_a_page_of_another_site_is_refused(web: str, secret: str, origin: str) -> None:
    person()
    with session(web) as browser:
        cookies = {"Cookie": f"sessionid={browser.cookies['sessionid']}"}
    assert refused(web, Origin=origin, **cookies)
    assert refused(web, secret, Origin=origin)


def test_a_session_without_an_origin_is_refused(web: str) -> None:
    person()
    with session(web) as browser:
        assert refused(web, Cookie=f"sessionid={browser.cookies['sessionid']}")


def test_a_page_of_ours_may_look_with_its_session(web: str) -> None:
    person("looker", "jobs.view_job")
    with session(web, "looker") as browser:
        cookie = f"sessionid={browser.cookies['sessionid']}"
    [frame] = run(lambda: ticks(web, "", 1, Cookie=cookie, Origin=web))
    assert frame["workers_online"] == 1


def test_a_session_needs_a_permission(web: str) -> None:
    person("blind", "api.view_apitoken")
    with session(web, "blind") as browser:
        assert refused(web, Cookie=f"sessionid={browser.cookies['sessionid']}", Origin=web)


def test_what_a_client_sends_is_ignored(web: str, secret: str) -> None:
    async def talkative() -> dict:
        async with feed(web, secret) as socket:
            await socket.send("{" * 1000)
            await socket.send(b"\x00\xff")
            await socket.recv()
            return json.loads(await socket.recv())

    assert "at" in run(talkative)
