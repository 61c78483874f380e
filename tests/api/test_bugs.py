"""A bug of ours, in a view or in a middleware: a problem of type `internal`, and not a word of the exception."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from monitoring.api import load
from tests.api.calling import token

TEXT = "the password is swordfish"


def broken(*_: Any) -> Any:
    raise ZeroDivisionError(TEXT)


def broken_middleware(get_response: Callable[..., Any]) -> Callable[..., Any]:
    return broken


@pytest.fixture(params=["view", "middleware"])
def _a_bug(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    if request.param == "view":
        monkeypatch.setattr(load.queues, "worker_stats", broken)
    else:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.broken_middleware"]


@pytest.mark.usefixtures("_a_bug")
@pytest.mark.parametrize("debug", [True, False])
def test_a_bug_is_a_problem_that_tells_nothing(
    web: str, debug: bool, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.DEBUG = debug
    client = Client(raise_request_exception=False, headers={"Authorization": f"Bearer {token('read')}"})
    answer = client.get("/api/workers/stats")
    body = answer.json()
    assert (answer.status_code, answer["Content-Type"]) == (500, "application/problem+json")
    assert (body["type"], body["status"]) == ("urn:switchyard:problem:internal", 500)
    assert set(body) == {"type", "title", "status", "detail"}
    for told in (TEXT, "ZeroDivisionError", "Traceback", __name__):
        assert told not in answer.content.decode()
    assert TEXT in caplog.text, "what the client is not told stands in the log"
