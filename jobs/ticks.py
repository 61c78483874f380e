"""The beat scheduler: schedules from the database, each tick of a job's schedule submitted under a key of its own.

Any number of beats may run. The one that holds the lease ticks, the others stand by and take over when it
lapses; and because the key names entry and tick, even two beats that tick at once make one job.
"""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import schedules
from django.conf import settings
from django.db import Error as DjangoError
from django.db import connection, transaction
from django.db.models import Exists
from django.db.models.functions import Now
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry

from jobs import registry
from jobs.connections import is_outage
from jobs.errors import JobError
from jobs.liveness import Heartbeat
from jobs.models import Worker
from jobs.processes import host, me
from jobs.submission import submit

logger = logging.getLogger("jobs.ticks")
BEAT_LOCK = 7005
LOOK_AGAIN_SECONDS = 1.0
MISSED_AFTER = timedelta(seconds=60)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# How far back to look for the last due time, nearest first: a schedule that is due often is found in few steps.
WINDOWS = [timedelta(minutes=1), timedelta(hours=1), timedelta(days=1), timedelta(days=32), timedelta(days=366 * 60)]

# A lock and the clock in one round trip. The time-out ends a beat whose host vanished in this transaction.
_ALONE = """
SELECT set_config('idle_in_transaction_session_timeout', '5s', true), pg_advisory_xact_lock(%s), clock_timestamp()
"""


class Clock:
    """PostgreSQL's clock as read at the start of this pass: beats on hosts whose clocks differ agree on every tick."""

    def __init__(self) -> None:
        self.moment = datetime.now(UTC)

    def now(self) -> datetime:
        return self.moment


clock = Clock()


def take_lease() -> datetime | None:
    """Take or renew this beat's lease; PostgreSQL's time when it is ours, None while another beat has it.

    Lock and UPDATE are two statements: one alone would judge by a snapshot from before it had the lock.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_ALONE, [BEAT_LOCK])
        now: datetime = cursor.fetchone()[-1]
        alive = Worker.objects.exclude(state=Worker.State.DEAD)
        others = alive.filter(kind=Worker.Kind.BEAT, lease_until__gt=Now()).exclude(pk=me.worker)
        lease = timedelta(seconds=settings.BEAT_LEASE_SECONDS)
        taken = alive.filter(~Exists(others), pk=me.worker).update(lease_until=Now() + lease)
    return now if taken else None


class Aligned(schedules.schedule):
    """An interval whose ticks are the multiples of its period since 1970, the same for every beat and restart."""

    def __init__(self, period: timedelta) -> None:
        super().__init__(period, relative=True)
        self.period = period

    def tick(self, moment: datetime) -> int:
        return (moment - EPOCH) // self.period

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        return EPOCH + (self.tick(last_run_at) + 1) * self.period - self.now()


class TickEntry(ModelEntry):
    """A row of the schedule. Headers `{"missed": "run_once"}` make up for missed ticks with one; default is to skip."""

    schedule: Any

    def __init__(self, model: PeriodicTask, app: Any = None) -> None:
        super().__init__(model, app=app)
        self.is_job = getattr(self.app.tasks.get(self.task), "is_job", False)
        if self.is_job and model.interval:
            self.schedule = Aligned(timedelta(**{model.interval.period: model.interval.every}))
        self.schedule.nowfun = clock.now

    def save(self) -> None:
        """Only what a tick changes, so that an edit made in the admin meanwhile stays."""
        PeriodicTask.objects.filter(pk=self.model.pk, enabled=True).update(
            last_run_at=self.model.last_run_at, total_run_count=self.model.total_run_count
        )

    def latest_due(self) -> datetime:
        """The last moment up to now at which this entry was to run."""
        now = clock.now()
        for window in WINDOWS:
            found = self._first_due(max(self.last_run_at, now - window))
            if found <= now:
                break
        while found < (following := self._first_due(found)) <= now:
            found = following
        return found

    def is_missed(self, due: datetime) -> bool:
        """Too late to pass for being on time, and not to be made up for."""
        return clock.now() - due > MISSED_AFTER and self.options["headers"].get("missed") != "run_once"

    def key(self, due: datetime) -> str:
        if isinstance(self.schedule, Aligned):
            return f"beat:{self.name}:{self.schedule.tick(due)}"
        precision = "minutes" if isinstance(self.schedule, schedules.crontab) else "seconds"
        return f"beat:{self.name}:{due.astimezone(UTC).isoformat(timespec=precision)}"

    def job_options(self) -> dict[str, Any]:
        """Queue, expiry and trace of this entry's jobs. A priority, which in Celery over Redis is best at 0 and
        worst at 9, names a queue unless the entry does: 0-2 high, 3-5 default, from 6 low."""
        ours = ("missed", "periodic_task_name")
        trace = {name: value for name, value in self.options["headers"].items() if name not in ours}
        return {"queue": self._queue(), "expires_at": self._expiry(), "trace": trace or None, "schedule": self.name}

    def _queue(self) -> str | None:
        priority = self.options.get("priority")
        if "queue" in self.options or priority is None:
            return self.options.get("queue")
        return "high" if priority < 3 else "default" if priority < 6 else "low"

    def _expiry(self) -> datetime | None:
        expires = self.options.get("expires")
        return clock.now() + timedelta(seconds=expires) if isinstance(expires, int) else expires

    def _first_due(self, after: datetime) -> datetime:
        return clock.now() + self.schedule.remaining_estimate(after)

    def _default_now(self) -> datetime:
        return clock.now()


class TickScheduler(DatabaseScheduler):
    """Beat, for as long as it holds the lease. Ticks of a JobTask are submitted; other tasks go Celery's way."""

    Entry = TickEntry
    # Celery connects to the broker for every tick; jobs need none, and other tasks use the app's own pool.
    producer = None
    heartbeat: Heartbeat | None = None
    _leads: bool | None = None
    _ticking = False

    def setup_schedule(self) -> None:
        """Only enlist: whoever takes the lease reads the schedule."""
        me.name = f"beat@{host()}"
        self.heartbeat = Heartbeat(Worker.Kind.BEAT, me.name, queues=[])
        self.heartbeat.start()

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """One pass over what is due; the seconds to the next. A database that is away is waited for."""
        self._ticking = True
        try:
            if not self._holds_lease():
                return LOOK_AGAIN_SECONDS
            return min(super().tick(*args, **kwargs), settings.BEAT_LEASE_SECONDS / 3)
        except DjangoError as error:
            logger.warning("tick failed, trying again", extra={"reason": str(error).strip()})
            connection.close_if_unusable_or_obsolete()
            self._read_again()
            return LOOK_AGAIN_SECONDS
        finally:
            self._ticking = False

    def apply_entry(self, entry: TickEntry, producer: Any = None) -> None:
        if not entry.is_job:
            super().apply_entry(entry)
            return
        try:
            _submit(entry)
        except JobError as error:
            _refuse(entry, error)
        except DjangoError as error:
            if is_outage(error):
                # Unsaved, the entry is due again when the schedule is read again.
                self._dirty.discard(entry.name)
                raise
            _refuse(entry, error)
        self.sync()

    def enabled_models_qs(self) -> Any:
        """All of them: Celery-beat's own filter leaves out crontabs of other hours, and with them missed ticks."""
        return self.Model.objects.enabled()

    def all_as_schedule(self) -> dict[str, TickEntry]:
        entries = {}
        for model in self.enabled_models():
            try:
                entries[model.name] = self.Entry(model, app=self.app)
            except (ValueError, TypeError, AttributeError) as error:
                logger.error("schedule unreadable", extra={"schedule": model.name, "reason": str(error)})
        return entries

    def install_default_entries(self, data: Any) -> None:
        """None: Celery's clean-up of stored results is part of `retire_jobs`."""

    def close(self) -> None:
        """Celery's signal handler calls this in the middle of a tick, whose connection is busy, and then again."""
        if not self._ticking:
            super().close()
            if self.heartbeat is not None:
                self.heartbeat.leave()

    def _holds_lease(self) -> bool:
        led, now = self._leads, take_lease()
        self._leads = now is not None
        if now is not None:
            clock.moment = now
        if led is not self._leads:
            logger.info("beat ticks" if self._leads else "beat stands by", extra={"worker_id": str(me.worker)})
            self._dirty.clear()
            self._read_again()
            if self._leads:
                self.update_from_dict(self.app.conf.beat_schedule)
        return self._leads

    def _read_again(self) -> None:
        self._initial_read, self._heap = True, None


def _submit(entry: TickEntry) -> None:
    due = entry.latest_due()
    about = {"schedule": entry.name, "task": entry.task, "due": due.isoformat()}
    if entry.is_missed(due):
        logger.warning("missed tick skipped", extra=about)
        return
    task = entry.app.tasks[entry.task]
    payload = registry.bound(task, tuple(entry.args), entry.kwargs)
    job = submit(task, payload, key=entry.key(due), scope="beat", **entry.job_options())
    logger.info("tick submitted", extra=about | {"job_id": str(job.id), "replayed": job.replayed})


def _refuse(entry: TickEntry, error: Exception) -> None:
    """One entry that cannot run must not stop the others."""
    logger.error("scheduled job refused", extra={"schedule": entry.name, "task": entry.task, "reason": str(error)})
