"""A webhook's receiving end, which keeps every line it is told."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hook(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Posts)
        self.texts: list[str] = []
        # time.monotonic() when the line of the same index came
        self.moments: list[float] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def told(self, start: str) -> float | None:
        """When a line that begins like this first came."""
        return next((at for text, at in zip(self.texts, self.moments, strict=True) if text.startswith(start)), None)


class _Posts(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for text in body["text"].splitlines():
            self.server.moments.append(time.monotonic())
            self.server.texts.append(text)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@contextmanager
def hook() -> Iterator[Hook]:
    with Hook() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
