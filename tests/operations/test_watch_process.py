"""`manage.py watch` as a process: it has a row, and it reports a PostgreSQL that no longer answers."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from jobs.models import Worker
from tests.site import Site, forget_connections
from tests.waiting import eventually


class Posts(BaseHTTPRequestHandler):
    texts: list[str] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.texts.extend(body["text"].splitlines())
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def told() -> Iterator[tuple[str, list[str]]]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Posts) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", Posts.texts
        server.shutdown()
        thread.join()


def test_a_frozen_database_is_told_and_so_is_its_return(site: Site, told: tuple[str, list[str]]) -> None:
    url, texts = told
    site.fleet.environment |= {"WATCH_WEBHOOK_URL": url, "WATCH_SECONDS": "1", "LEASE_SECONDS": "30"}
    row = site.fleet.start("watch", ["manage.py", "watch", "--name", "watch@test"], row="watch@test")
    assert row.kind == Worker.Kind.WATCH
    forget_connections()
    site.postgres.pause()
    try:
        eventually(lambda: any("FIRING DatabaseDown" in text for text in texts), within=120, what="the notice")
    finally:
        site.postgres.resume()
    assert site.fleet.processes["watch"].poll() is None
    beat = row.heartbeat_at
    eventually(lambda: Worker.objects.get(pk=row.pk).heartbeat_at > beat, within=30, what="watch to beat again")
    assert site.fleet.kill("watch", 15) == 0
    eventually(lambda: Worker.objects.get(pk=row.pk).state == "DEAD", within=15, what="watch to sign off")
