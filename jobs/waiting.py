"""Waiting for jobs to finish inside a web process: one query per beat, however many wait."""

import asyncio
from collections import defaultdict
from contextlib import suppress
from uuid import UUID

from django.db import Error as DjangoError

from api.serving import in_background
from api.stopping import when_stopping
from jobs.models import Job

BEAT_SECONDS = 0.1


class _Watch:
    """The jobs that somebody in this event loop waits for. Looks only while there are any."""

    def __init__(self) -> None:
        self.waiting: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)
        self.looking: asyncio.Task[None] | None = None
        self.is_closed = False

    def close(self) -> None:
        """Nobody waits any longer: the process is about to end."""
        self.is_closed = True
        for job_id in self.waiting:
            self._release(job_id)

    async def finished(self, job_id: UUID, timeout: float) -> None:
        if self.is_closed:
            return
        over = asyncio.Event()
        self.waiting[job_id].add(over)
        if self.looking is None or self.looking.done():
            self.looking = asyncio.create_task(self._look())
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), timeout)
        finally:
            self.waiting[job_id].discard(over)
            if not self.waiting[job_id]:
                del self.waiting[job_id]

    async def _look(self) -> None:
        while self.waiting:
            try:
                over = await in_background(_final_among, list(self.waiting))
            except DjangoError:
                # The database is away: those who wait get their time-out, as if nothing had happened yet.
                over = []
            for job_id in over:
                self._release(job_id)
            await asyncio.sleep(BEAT_SECONDS)

    def _release(self, job_id: UUID) -> None:
        for event in self.waiting.get(job_id, ()):
            event.set()


_watch = _Watch()
when_stopping(_watch.close)


async def finished(job_id: UUID, timeout: float) -> None:
    """Return once the job is final, after `timeout` seconds, or when this process is told to stop."""
    await _watch.finished(job_id, timeout)


def _final_among(ids: list[UUID]) -> list[UUID]:
    return list(Job.objects.filter(pk__in=ids).exclude(finished_at=None).values_list("pk", flat=True))
