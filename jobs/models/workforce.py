"""Who works, and on what: processes with a heartbeat, and queues that can be paused."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from jobs.ids import uuid7


class Worker(models.Model):
    """A process that matters, alive as long as it beats. All its times are PostgreSQL's clock."""

    class Kind(models.TextChoices):
        WORKER = "worker", "Worker"
        DISPATCHER = "dispatcher", "Dispatcher"
        BEAT = "beat", "Beat"
        WATCH = "watch", "Watch"

    class State(models.TextChoices):
        UP = "UP", "Up"
        STOPPING = "STOPPING", "Stopping"
        DEAD = "DEAD", "Dead"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    name = models.CharField(max_length=200)
    host = models.CharField(max_length=200)
    boot_id = models.CharField(max_length=64, default="")
    pid_ns = models.CharField(max_length=64, default="")
    pid = models.IntegerField()
    pid_started = models.BigIntegerField(default=0, help_text="Start of the process in clock ticks since boot.")
    queues = ArrayField(models.CharField(max_length=50), default=list)
    concurrency = models.IntegerField(default=0)
    started_at = models.DateTimeField(db_default=Now())
    heartbeat_at = models.DateTimeField(db_default=Now())
    lease_until = models.DateTimeField(null=True, help_text="While this lasts, this beat is the one that ticks.")
    state = models.CharField(max_length=10, choices=State.choices, default=State.UP)
    stop_requested_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["kind", "name", "-started_at"]
        permissions = [("control_worker", "Can stop, grow and shrink workers")]
        indexes = [
            models.Index(fields=["kind", "state"], condition=~Q(state="DEAD"), name="worker_alive"),
            models.Index(F("heartbeat_at").desc(), name="worker_latest_beat"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(state__in=["UP", "STOPPING", "DEAD"]), name="worker_state_is_known"),
        ]

    def __str__(self) -> str:
        return self.name


class Queue(models.Model):
    """A queue's pause, which outlives restarts, and the dispatcher's latest reading of it."""

    name = models.CharField(max_length=50, primary_key=True)
    paused_at = models.DateTimeField(null=True)
    paused_by = models.CharField(max_length=150, default="")
    pause_reason = models.TextField(default="")
    depth = models.IntegerField(default=0, help_text="Due jobs that wait for a worker.")
    oldest_due_at = models.DateTimeField(null=True)
    running = models.IntegerField(default=0)
    sampled_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["name"]
        permissions = [("pause_queue", "Can pause and resume queues")]

    def __str__(self) -> str:
        return self.name

    @property
    def is_paused(self) -> bool:
        return self.paused_at is not None


class Batch(models.Model):
    """What a process last claimed together: the stretch of a queue in which its parent finds those jobs."""

    worker_id = models.UUIDField()
    child_pid = models.IntegerField()
    queue = models.CharField(max_length=50)
    first_run_at = models.DateTimeField()
    last_run_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["worker_id", "child_pid"], name="one_batch_per_process")]

    def __str__(self) -> str:
        return f"{self.queue} by {self.child_pid}"


class Pace(models.Model):
    """When the next job of a task with a rate may start: one moment, whichever dispatcher asks."""

    task = models.CharField(max_length=100, primary_key=True)
    next_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.task
