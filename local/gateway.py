"""The sandbox payment gateway: honours idempotency keys, fails some first calls, tells what it charged."""

import argparse
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from local.children import stop_on_sigterm
from local.ledger import Entry, Ledger
from local.mailbox import falls_within

LARGEST_AMOUNT = 1_000_000
CHARGE_FIELDS = ("user_id", "amount", "currency")


@dataclass(frozen=True)
class Answer:
    status: HTTPStatus
    body: dict[str, Any] | None = None
    retry_after: int | None = None


class Gateway:
    def __init__(self, directory: Path, *, fail: float) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger(directory / "ledger.sqlite3")
        self.webhooks = directory / "webhooks.jsonl"
        self.fail = fail

    def charge(self, key: str, order: dict[str, Any]) -> Answer:
        entry, is_first = self.ledger.call(key, order)
        if entry.order != order:
            return refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "this Idempotency-Key came with another body before")
        if order["amount"] > LARGEST_AMOUNT:
            return refusal(HTTPStatus.PAYMENT_REQUIRED, f"declined: the limit is {LARGEST_AMOUNT}")
        if is_first and falls_within(key, self.fail):
            return self._fail(entry)
        charge_id, is_new = self.ledger.charge(entry)
        status = HTTPStatus.CREATED if is_new else HTTPStatus.OK
        return Answer(status, {"charge_id": charge_id, "status": "charged", **entry.order})

    def _fail(self, entry: Entry) -> Answer:
        """Half of the failures have charged: only their answer was lost. A retry must not charge again."""
        if falls_within("lost:" + entry.key, 0.5):
            self.ledger.charge(entry)
        retry_after = 1 if falls_within("later:" + entry.key, 0.5) else None
        return Answer(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "unavailable, try again"}, retry_after)

    def receive_webhook(self, headers: dict[str, str], body: str) -> Answer:
        signed = {name: value for name, value in headers.items() if "signature" in name or "timestamp" in name}
        entry = {"at": time.time(), "headers": headers, "body": body}
        with self.webhooks.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        print("webhook " + json.dumps(signed), flush=True)
        return Answer(HTTPStatus.NO_CONTENT)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    # One packet an answer: two would wait for each other's acknowledgement, 40 ms each.
    wbufsize = -1
    server: "Server"

    def do_GET(self) -> None:
        ledger = self.server.gateway.ledger
        match self.path.strip("/").split("/"):
            case ["charges"]:
                self._answer(Answer(HTTPStatus.OK, ledger.totals()))
            case ["charges", key]:
                self._answer(Answer(HTTPStatus.OK, ledger.count(unquote(key))))
            case _:
                self._answer(refusal(HTTPStatus.NOT_FOUND, "no such page"))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        match self.path:
            case "/charges":
                self._answer(self._charge(body))
            case "/webhooks":
                headers = {name.lower(): value for name, value in self.headers.items()}
                self._answer(self.server.gateway.receive_webhook(headers, body.decode(errors="replace")))
            case _:
                self._answer(refusal(HTTPStatus.NOT_FOUND, "no such page"))

    def _charge(self, body: bytes) -> Answer:
        key = self.headers.get("Idempotency-Key")
        if not key:
            return refusal(HTTPStatus.BAD_REQUEST, "the header Idempotency-Key is missing")
        try:
            order = json.loads(body)
        except ValueError:
            return refusal(HTTPStatus.BAD_REQUEST, "the body is not JSON")
        if problem := problem_with(order):
            return refusal(HTTPStatus.BAD_REQUEST, problem)
        return self.server.gateway.charge(key, order)

    def _answer(self, answer: Answer) -> None:
        content = b"" if answer.body is None else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        if answer.status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(content)))
        if answer.retry_after is not None:
            self.send_header("Retry-After", str(answer.retry_after))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        print(format % args, flush=True)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    # Workers may all call at the same moment.
    request_queue_size = 128

    def __init__(self, port: int, gateway: Gateway) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.gateway = gateway


def refusal(status: HTTPStatus, error: str) -> Answer:
    return Answer(status, {"error": error})


def problem_with(order: Any) -> str | None:
    if not isinstance(order, dict):
        return "the body is not an object"
    for field in CHARGE_FIELDS:
        if field not in order:
            return f"{field} is missing"
    if not isinstance(order["amount"], int | float) or order["amount"] <= 0:
        return "amount is not a positive number"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--fail", type=float, default=0.2, help="share of first calls answered with 503")
    options = parser.parse_args()
    with Server(options.port, Gateway(options.directory, fail=options.fail)) as server:
        print(f"listening on 127.0.0.1:{options.port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    stop_on_sigterm()
    with suppress(KeyboardInterrupt):
        main()
