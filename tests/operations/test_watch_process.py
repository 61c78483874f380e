"""`manage.py watch` as a process: it has a row, and it reports a PostgreSQL or a web process that no longer answers."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.db import connections

from jobs.models import Worker
from local.readiness import free_port
from monitoring.conditions import findings
from monitoring.watching import Watch
from tests.operations.hooks import Hook, hook
from tests.site import Site, forget_connections
from tests.waiting import eventually


def test_a_frozen_database_is_told_and_so_is_its_return(site: Site) -> None:
    with hook() as ears:
        _freeze_and_listen(site, ears)


def _freeze_and_listen(site: Site, ears: Hook) -> None:
    site.fleet.environment |= {"WATCH_WEBHOOK_URL": ears.url, "WATCH_SECONDS": "1", "LEASE_SECONDS": "30"}
    row = site.fleet.start("watch", ["manage.py", "watch", "--name", "watch@test"], row="watch@test")
    assert row.kind == Worker.Kind.WATCH
    forget_connections()
    site.postgres.pause()
    try:
        eventually(lambda: ears.told("FIRING DatabaseDown"), within=120, what="the notice")
    finally:
        site.postgres.resume()
    assert site.fleet.processes["watch"].poll() is None
    beat = row.heartbeat_at
    eventually(lambda: Worker.objects.get(pk=row.pk).heartbeat_at > beat, within=30, what="watch to beat again")
    assert site.fleet.kill("watch", 15) == 0
    eventually(lambda: Worker.objects.get(pk=row.pk).state == "DEAD", within=15, what="watch to sign off")


class Web(BaseHTTPRequestHandler):
    """Answers with the code in its path."""

    def do_GET(self) -> None:
        self.send_response(int(self.path[1:]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.mark.django_db(transaction=True)
def test_the_watch_asks_the_web_process_itself(settings: Any) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        live = f"http://127.0.0.1:{server.server_port}"
        addresses = {"": False, f"{live}/200": False, f"{live}/503": True, f"http://127.0.0.1:{free_port()}": True}
        assert {address: says_absent(address, settings) for address in addresses} == addresses
        server.shutdown()
        thread.join()


def says_absent(address: str, settings: Any) -> bool:
    settings.WATCH_WEB_URL = address
    watch = Watch()
    watch.look()
    # The thread that collects has a connection of its own.
    watch._thread.submit(connections.close_all).result()
    return "TargetAbsent" in {condition.name for condition, _, _ in findings(watch.history)}
