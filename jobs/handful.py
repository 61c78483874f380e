"""Jobs one process has claimed together: those that wait, the one that runs, those not yet recorded."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import psycopg

from jobs import connections
from jobs.batch_settlement import release_together, succeed_together
from jobs.outcomes import Succeeded
from jobs.querysets import Held

logger = logging.getLogger("jobs")
# Finished work that a crash may repeat, in seconds of it.
UNRECORDED_SECONDS = 0.05
SLOW_SECONDS = 0.25


class Handful:
    """Shared by the thread that runs the jobs and the one that relieves it; whoever takes a job out settles it."""

    def __init__(self, jobs: Iterable[Held], *, until: float, on_release: Callable[[], None]) -> None:
        self.until = until
        self._waiting = deque(jobs)
        self._done: list[tuple[Held, Succeeded]] = []
        self._unrecorded = 0.0
        self._began = time.monotonic()
        self._on_release = on_release
        self._taking = threading.Lock()
        self._recording = threading.Lock()

    def next(self) -> Held | None:
        """The next job to run, unless the other thread has given it back."""
        with self._taking:
            self._began = time.monotonic()
            return self._waiting.popleft() if self._waiting else None

    def finish(self, job: Held, outcome: Succeeded) -> None:
        """Note a success; it is recorded before more than UNRECORDED_SECONDS of work depend on it."""
        with self._taking:
            self._done.append((job, outcome))
            self._unrecorded += time.monotonic() - self._began
            is_time = self._unrecorded >= UNRECORDED_SECONDS
        if is_time:
            self.record(until=self.until)

    def record(self, *, until: float) -> None:
        """Settle what is finished. It stays noted until that is done, whatever interrupts."""
        with self._recording:
            with self._taking:
                done, self._unrecorded = list(self._done), 0.0
            if done:
                succeed_together(done, until=until)
            with self._taking:
                del self._done[: len(done)]

    def release(self, why: str, *, until: float) -> None:
        """Give back what has not begun."""
        with self._taking:
            if not self._waiting:
                return
            release_together(list(self._waiting), why, until=until)
            self._waiting.clear()
        self._on_release()

    def put_away(self, why: str, *, until: float) -> None:
        """Record what is finished, and whether or not that is possible, give back the rest."""
        try:
            self.record(until=until)
        finally:
            self.release(why, until=until)

    def relieve(self) -> None:
        """While one job is slow: nobody else waits for it."""
        if time.monotonic() - self._began < SLOW_SECONDS:
            return
        try:
            self.put_away("Another job of its batch takes long.", until=0)
        except psycopg.Error as error:
            logger.warning("batch not relieved", extra={"reason": str(error).strip()})
        finally:
            connections.close_own()


class Relief:
    """A thread of this process, started with the first handful, that looks after those in work."""

    def __init__(self) -> None:
        self._handfuls: set[Handful] = set()
        self._in_work = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def watch(self, handful: Handful) -> None:
        with self._lock:
            self._handfuls.add(handful)
        self._in_work.set()
        # A forked child inherits the object, but not the thread.
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._look_around, name="relief", daemon=True)
            self._thread.start()

    def forget(self, handful: Handful) -> None:
        with self._lock:
            self._handfuls.discard(handful)
            if not self._handfuls:
                self._in_work.clear()

    def _look_around(self) -> None:
        while True:
            self._in_work.wait()
            time.sleep(SLOW_SECONDS)
            with self._lock:
                handfuls = list(self._handfuls)
            for handful in handfuls:
                handful.relieve()


relief = Relief()


@contextmanager
def relieved(handful: Handful) -> Iterator[None]:
    """Looked after by the other thread as long as this lasts."""
    relief.watch(handful)
    try:
        yield
    finally:
        relief.forget(handful)
