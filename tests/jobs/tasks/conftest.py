"""Jobs run in this process through the project's own claim, run and settle, against the sandbox servers."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobs import registry
from jobs.execution import execute
from jobs.models import Job
from jobs.submission import submit
from local.children import spawn
from local.place import CHECKOUT
from local.readiness import free_port


@pytest.fixture
def attempt(at_work) -> Callable[[Job], Job]:
    """Run a job's next attempt, due or not; the row afterwards."""

    def attempt(job: Job) -> Job:
        task = registry.find(job.task)
        Job.objects.filter(pk=job.pk).retry_now()
        task.push_request(id=str(job.id), called_directly=False)
        try:
            execute(task, job.id)
        finally:
            task.pop_request()
        return Job.objects.get(pk=job.pk)

    return attempt


@pytest.fixture
def run(attempt) -> Callable[..., Job]:
    """Submit a job and run its first attempt."""

    def run(task: str, payload: dict[str, Any], **options: Any) -> Job:
        return attempt(submit(task, payload, **options))

    return run


@pytest.fixture
def sandbox(settings, tmp_path):
    """A root of the pipeline, and everything else beside it."""
    root = tmp_path / "sandbox"
    root.mkdir()
    settings.PIPELINE_ROOTS = [root.as_uri(), "memory://", "s3://bucket/incoming/"]
    return root


@pytest.fixture
def copy(run, sandbox):
    """Run the pipeline between two files of the sandbox."""

    def copy(source, destination, **more):
        ends = {"source": (sandbox / source).as_uri(), "destination": (sandbox / destination).as_uri()}
        return run("data_pipeline", ends | more)

    return copy


@dataclass
class Sandbox:
    """A sandbox server of ours, run as the program it is."""

    port: int
    directory: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def lines(self, name: str) -> list[dict[str, Any]]:
        path = self.directory / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def get(self, path: str) -> Any:
        return httpx.get(self.url + path, trust_env=False).json()


def _sandbox(module: str, directory: Path, *options: str) -> Iterator[Sandbox]:
    place = Sandbox(free_port(), directory)
    command = [sys.executable, "-m", module, "--port", str(place.port), "--directory", str(directory), *options]
    process = spawn(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None and b"listening" in process.stdout.readline()
    # What it goes on to print must not fill the pipe.
    threading.Thread(target=process.stdout.read, daemon=True).start()
    yield place
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def refusing_mailbox(tmp_path_factory) -> Iterator[Sandbox]:
    """An SMTP server that refuses every first delivery for now, and refused.example for good."""
    yield from _sandbox("local.mailbox", tmp_path_factory.mktemp("mail"), "--refuse", "1")


@pytest.fixture(scope="session")
def failing_gateway(tmp_path_factory) -> Iterator[Sandbox]:
    """A payment gateway whose first answer to every key is lost or 503."""
    yield from _sandbox("local.gateway", tmp_path_factory.mktemp("gateway"), "--fail", "1")


@dataclass
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Call:
    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """An HTTP server that notes what it is sent and answers as told, by path; 200 where it is told nothing."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.answers: dict[str, Answer] = {}
        self.was_cut_short = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def url(self, path: str = "/hook") -> str:
        return f"http://{self.host}{path}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            receiver.calls.append(Call(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            answer = receiver.answers.get(self.path, Answer())
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(answer.body)
            except ConnectionError:
                receiver.was_cut_short = True

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@pytest.fixture
def receiver(settings) -> Iterator[Receiver]:
    """A receiver that the allow-list names."""
    receiver = Receiver()
    settings.WEBHOOK_ALLOWED_HOSTS = [receiver.host]
    yield receiver
    receiver.close()


@pytest.fixture
def stranger() -> Iterator[Receiver]:
    """A receiver on an inner address that no list names."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def answer() -> type[Answer]:
    return Answer
