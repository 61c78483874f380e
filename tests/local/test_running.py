"""`up` from its first line to its last, and what its signals do."""

import asyncio
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.console import Console
from local.place import CHECKOUT
from local.running import _catch_signals
from local.supervisor import Supervisor

TASKS = """
always_fails crash data_pipeline deliver_webhook flaky generate_report process_data process_payment send_email slow
"""


def test_the_first_signal_asks_for_a_stop_and_the_second_hurries_it(tmp_path: Path) -> None:
    said = io.StringIO()

    async def interrupted_twice() -> None:
        console = Console(tmp_path, out=said)
        supervisor = Supervisor(console)
        asked = _catch_signals(supervisor, console)
        async with asyncio.timeout(10):
            os.kill(os.getpid(), signal.SIGINT)
            await asked.wait()
            assert not supervisor._hurry.is_set()
            os.kill(os.getpid(), signal.SIGTERM)
            await supervisor._hurry.wait()

    asyncio.run(interrupted_twice())
    assert "hurrying" in said.getvalue()


def test_up_once_runs_a_sample_of_every_task_and_says_that_nothing_was_lost(
    spawn: Callable[..., Any], place: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DJANGO_SETTINGS_MODULE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SWITCHYARD_DATA", str(place))
    up = spawn(str(CHECKOUT / "dev.py"), "up", "--once", "--port", str(port))
    said, _ = up.communicate(timeout=180)
    assert up.returncode == 0, said
    for words in ("lost = 0", "login admin / ", "submitted  succeeded  retried  dead-lettered", *TASKS.split()):
        assert words in said, said
    assert '"level"' not in said
