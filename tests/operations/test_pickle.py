"""A message that claims to be pickle is put aside by a real worker: nobody unpickles it, and the next job runs."""

import base64
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings

from jobs.submission import submit
from jobs.transport import QUARANTINE
from tests.chaos.malformed import good
from tests.fleet import Fleet
from tests.waiting import eventually, settled


class Opens:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def pickled(path: Path, content_type: str, encoding: str) -> bytes:
    """A task's message as Celery writes it with task_serializer = "pickle"."""
    message = good()
    message["content-type"], message["content-encoding"] = content_type, encoding
    content = pickle.dumps(([], {"failures": Opens(path)}, {}))
    message["body"] = base64.b64encode(content).decode()
    return json.dumps(message).encode()


@pytest.fixture(scope="module")
def broker(fleet: Fleet) -> redis.Redis:
    fleet.worker("w", size=1)
    return redis.Redis.from_url(settings.REDIS_URL)


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("application/x-python-serialize", "binary"),
        ("application/x-python-serialize", "utf-8"),
        ("pickle", "binary"),
        ("application/json", "binary"),
    ],
)
def test_a_pickle_is_quarantined_whatever_it_calls_itself(
    content_type: str, encoding: str, broker: redis.Redis, fleet: Fleet, tmp_path: Path
) -> None:
    broker.delete(QUARANTINE)
    raw, pid, children = pickled(tmp_path / "opened", content_type, encoding), fleet.pid("w"), fleet.children("w")
    broker.lpush("default", raw)
    eventually(lambda: broker.lrange(QUARANTINE, 0, -1) == [raw], within=30, what="the quarantine")
    assert settled(submit("flaky", {"failures": 0})).state == "SUCCESS"
    assert not (tmp_path / "opened").exists()
    assert (fleet.pid("w"), fleet.children("w")) == (pid, children)


def test_what_is_sent_would_have_run_in_a_process_that_unpickles(tmp_path: Path) -> None:
    message = json.loads(pickled(tmp_path / "opened", "application/x-python-serialize", "binary"))
    pickle.loads(base64.b64decode(message["body"]))
    assert (tmp_path / "opened").exists()
