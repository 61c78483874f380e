"""What a worker's parent does on every beat: record ends, end cancelled jobs, notice lost children, obey pauses.

The event loop never waits for PostgreSQL: it hands over what it saw, and does what the beat thread asks of it.
"""

import atexit
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from celery import bootsteps
from celery.signals import worker_shutting_down
from celery.worker import state as worker_state

from jobs import batch_ends, rescue, stalls, unknown
from jobs.liveness import Heartbeat
from jobs.models import Queue, Worker
from jobs.processes import is_child_alive, me
from jobs.querysets import Held
from jobs.rescue import Ended

logger = logging.getLogger("jobs.parent")
# Celery's pool looks for exited children at least every five seconds.
REPORT_SECONDS = 6.0
STOPPED = "Its worker was stopped before it finished."


class Parent:
    """The state a parent keeps between beats: jobs its children took, and what it suspects of them."""

    def __init__(self) -> None:
        self.running: dict[UUID, float] = {}
        self.queues: list[str] = []
        self.worker: Any = None
        self.heartbeat: Heartbeat | None = None
        self._reports: deque[Callable[[], None]] = deque()
        self._suspects: dict[UUID, float] = {}
        self._told_to_end: set[UUID] = set()
        self._watchdog = stalls.StallWatchdog()

    def begin(self, worker: Any) -> None:
        """Enlist before the first ticket is taken, leave when the process ends, warm or cold."""
        self.worker = worker
        self.queues = [str(name) for name in worker.app.amqp.queues.consume_from]
        self.heartbeat = Heartbeat(Worker.Kind.WORKER, me.name, queues=self.queues, concurrency=worker.concurrency)
        self.heartbeat.duties = [self._record_reports, self._look_at_running, self._obey_pauses, self._watch_consumer]
        self.heartbeat.last_duties = [self._record_reports, self._release_the_rest]
        self.heartbeat.start()
        self._start_paused()
        self._listen_for_stops()
        atexit.register(self._leave, os.getpid())

    def report(self, ended: Ended) -> None:
        """Called in the event loop: note an end and have it recorded at once."""
        self.running.setdefault(ended.job, 0.0)
        record = batch_ends.record_end if ended.was_batch else rescue.record_end
        self.hand_over(lambda: record(ended, stopping=self._is_stopping()))

    def report_unknown(self, job: UUID, task: str) -> None:
        """Called in the event loop: a ticket for a task this worker does not know."""
        self.running.setdefault(job, 0.0)
        self.hand_over(lambda: unknown.settle_unknown(job, task))

    def hand_over(self, work: Callable[[], None]) -> None:
        """Have something done in the beat thread, where waiting for the database is allowed."""
        self._reports.append(work)
        if self.heartbeat is not None:
            self.heartbeat.wake()

    def _listen_for_stops(self) -> None:
        """Celery tells of a cold stop only after the wait for its running jobs, and a kill may come meanwhile."""
        worker_shutting_down.connect(self._on_stop_signal)
        for number in (signal.SIGTERM, signal.SIGQUIT):
            if callable(celerys := signal.getsignal(number)):
                signal.signal(number, partial(self._stop_and_then, celerys))

    def _stop_and_then(self, celerys: Callable[[int, Any], Any], number: int, frame: Any) -> None:
        self._on_stop_signal()
        celerys(number, frame)

    def _is_stopping(self) -> bool:
        return self.heartbeat is not None and self.heartbeat.stopping

    def _on_stop_signal(self, **_: Any) -> None:
        if self.heartbeat is not None:
            self.heartbeat.stop_claiming()

    def _leave(self, pid: int) -> None:
        if os.getpid() == pid and self.heartbeat is not None:
            self.heartbeat.leave()

    def _record_reports(self) -> None:
        """Reported ends come first: they know the signal, which the process table does not."""
        while self._reports:
            work = self._reports[0]
            # Kept until it is done, but as the last: should it fail, the others have their turn on the next beat.
            self._reports.rotate(-1)
            work()
            self._reports.remove(work)

    def _look_at_running(self) -> None:
        taken, active, answering = dict(self.running), _active_jobs(), _answering()
        held, together = rescue.held_by_me(taken), batch_ends.held_by_children()
        for gone in [job for job in taken if job not in held and job not in active]:
            # Unless its next attempt was accepted while we asked the database.
            if self.running.get(gone) == taken[gone]:
                self.running.pop(gone, None)
        held |= {job.id: job for job in together}
        active |= {job.id for job in together if job.child_pid in answering}
        self._told_to_end &= held.keys()
        for job in held.values():
            if job.cancel_requested_at is not None:
                self._end_child(job)
        self._record_lost([job for job in held.values() if not _is_in_good_hands(job, active)])

    def _record_lost(self, lost: list[Held]) -> None:
        """Only after a while: the report of an end, which knows the signal, may take the pool some seconds."""
        now = time.monotonic()
        self._suspects = {job.id: self._suspects.get(job.id, now) for job in lost}
        for job in [each for each in lost if now - self._suspects[each.id] >= REPORT_SECONDS]:
            if self._is_stopping():
                rescue.record_release(job, STOPPED)
            elif is_child_alive(job.child_pid or 0, job.child_ticks):
                # Counted, or an attempt that can never be settled would run for ever.
                rescue.record_death(job, "NOT_SETTLED", "Its process went on to other work without settling it.")
            else:
                rescue.record_death(job, "WORKER_LOST", f"Process {job.child_pid} is gone.")

    def _end_child(self, job: Held) -> None:
        """Ask politely first, and on the next beat not politely."""
        how = signal.SIGKILL if job.id in self._told_to_end else signal.SIGTERM
        self._told_to_end.add(job.id)
        if self._is_stopping():
            # The event loop may have ended; but no child takes another job any more, so none can be hit by mistake.
            _end_process(job, how)
            return
        self.worker.hub.call_soon(self._end_child_if_it_still_runs, str(job.id), job.child_pid, how)

    def _end_child_if_it_still_runs(self, job_id: str, pid: int, how: signal.Signals) -> None:
        """In the event loop, where no child can change its job meanwhile."""
        for request in list(worker_state.active_requests):
            if request.worker_pid == pid and (request.id == job_id or _is_doorbell(request)):
                self.worker.pool.terminate_job(pid, how)

    def _start_paused(self) -> None:
        """Pauses are read before the consumer starts, so a restart does not leak a single job."""
        self.worker.app.amqp.queues.deselect(list(_paused_queues()))

    def _obey_pauses(self) -> None:
        """What should be consumed against what is, on every beat: a reconnect may have replaced the consumer."""
        paused = _paused_queues()
        if consumer := getattr(self.worker, "consumer", None):
            self.worker.hub.call_soon(_consume_all_but, consumer, self.queues, paused)

    def _watch_consumer(self) -> None:
        paused = _paused_queues()
        stalled = self._watchdog.is_stalled(
            connected=_is_connected(self.worker),
            free_slots=self.worker.concurrency - len(_active_jobs()),
            queues=[queue for queue in self.queues if queue not in paused],
        )
        if stalled and self.heartbeat is not None and not self._is_stopping():
            self.heartbeat.stop_claiming()
            self.heartbeat.beat()
            stalls.end_process()

    def _release_the_rest(self) -> None:
        rescue.release_all_of_mine(STOPPED)


parent = Parent()


class ParentStep(bootsteps.StartStopStep):
    """Starts the parent's duties once the pool is there and before the consumer."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        me.name = worker.hostname
        super().__init__(worker, **options)

    def start(self, worker: Any) -> None:
        parent.begin(worker)


def _is_in_good_hands(job: Held, active: set[UUID]) -> bool:
    return job.id in active and is_child_alive(job.child_pid or 0, job.child_ticks)


def _active_requests() -> list[Any]:
    """What the children are busy with, as the event loop knows it; it may change the set while we read."""
    while True:
        try:
            return list(worker_state.active_requests)
        except RuntimeError:
            continue


def _active_jobs() -> set[UUID]:
    return {UUID(each.id) for each in _active_requests() if _is_job(each)}


def _is_job(request: Any) -> bool:
    """Other tasks may have any text for an id."""
    return getattr(request.task, "is_job", False)


def _answering() -> set[int]:
    return {each.worker_pid for each in _active_requests() if _is_doorbell(each)}


def _is_doorbell(request: Any) -> bool:
    return getattr(request, "is_doorbell", False)


def _end_process(job: Held, how: signal.Signals) -> None:
    if job.child_pid and job.child_pid != os.getpid() and is_child_alive(job.child_pid, job.child_ticks):
        os.kill(job.child_pid, how)


def _is_connected(worker: Any) -> bool:
    connection = getattr(getattr(worker, "consumer", None), "connection", None)
    return bool(connection is not None and connection.connected)


def _paused_queues() -> set[str]:
    return set(Queue.objects.exclude(paused_at=None).values_list("name", flat=True))


def _consume_all_but(consumer: Any, queues: list[str], paused: set[str]) -> None:
    if consumer.task_consumer is None:
        return
    for queue in queues:
        consuming = consumer.task_consumer.consuming_from(queue)
        if queue in paused and consuming:
            consumer.cancel_task_queue(queue)
        elif queue not in paused and not consuming:
            consumer.add_task_queue(queue)
