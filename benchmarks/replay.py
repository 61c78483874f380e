"""`python -m benchmarks.replay`: the pace that the replay of a group keeps, and how soon an abort ends one.

Beside 10,000 letters of three groups, with servers, a dispatcher and a worker of its own. The exit code counts what
was missed: 10 % of the pace, 2 s.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.pages import ROOT, manage, seed_beside, servers

PROCESSES = (
    ["-m", "celery", "-A", "config", "worker", "-Q", "system", "-c", "1", "--loglevel", "WARNING"],
    ["manage.py", "dispatcher"],
)
OFF_BY, ENDS_WITHIN = 0.1, 2.0


def main() -> None:
    options = _options()
    if not options.here:
        with servers(Path(options.directory)) as environment, _processes(environment):
            again = [sys.executable, "-m", "benchmarks.replay", "--here", "--pace", str(options.pace)]
            sys.exit(subprocess.run(again, cwd=ROOT, env=environment, check=False).returncode)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    seed_beside(0)
    sys.exit(_keeps_pace(options.pace) + _ends(options.pace))


def _keeps_pace(pace: float) -> int:
    operation = _begin("bench-1", pace)
    _until(lambda: _read(operation).finished_at is not None)
    times = _sent(operation)
    seconds = (times[-1] - times[0]).total_seconds()
    kept = (len(times) - 1) / seconds
    print(f"{len(times):,} letters at {pace:g}/s: {kept:.1f}/s over {seconds:.1f} s, {kept / pace - 1:+.1%}")
    return abs(kept / pace - 1) > OFF_BY


def _ends(pace: float) -> int:
    from deadletters import operations

    operation = _begin("bench-2", pace)
    _until(lambda: _read(operation).done > pace)
    began = time.time()
    operations.abort(operation.pk, actor="bench")
    # Nobody says that nothing will come any more; what comes late would come within this time.
    time.sleep(3 * ENDS_WITHIN)
    late = _sent(operation)[-1].timestamp() - began
    print(f"aborted after {_read(operation).done:,} letters: the last one left {max(late, 0):.2f} s after the abort")
    return late > ENDS_WITHIN


def _begin(fingerprint: str, pace: float) -> Any:
    from deadletters import operations
    from deadletters.models import DeadLetter

    letters = DeadLetter.objects.open().matching(fingerprint=fingerprint)
    how = {"actor": "bench", "reason": "measured", "pace": pace, "patch": None}
    return operations.start(letters, filter={"fingerprint": fingerprint}, **how)


def _read(operation: Any) -> Any:
    operation.refresh_from_db()
    return operation


def _sent(operation: Any) -> list[datetime]:
    return sorted(operation.items.filter(state="REPLAYED").values_list("at", flat=True))


def _until(holds: Callable[[], bool], within: float = 300) -> None:
    deadline = time.monotonic() + within
    while not holds():
        if time.monotonic() > deadline:
            sys.exit(f"waited {within:.0f} s in vain")
        time.sleep(0.1)


@contextmanager
def _processes(environment: dict[str, str]) -> Iterator[None]:
    manage(environment, "migrate", "--verbosity", "0")
    running = [subprocess.Popen([sys.executable, *each], cwd=ROOT, env=environment) for each in PROCESSES]
    try:
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(timeout=60)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__)
    parser.add_argument("--pace", type=float, default=200, help="jobs per second")
    parser.add_argument("--here", action="store_true", help="measure on DATABASE_URL, where all of it runs already")
    parser.add_argument("--directory", default=tempfile.gettempdir(), help="where PostgreSQL keeps its data")
    return parser.parse_args()


if __name__ == "__main__":
    main()
