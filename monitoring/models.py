"""What monitoring writes itself: counts per minute, and reports."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from jobs.models import Job


class Rollup(models.Model):
    """One minute of one queue and task: what charts, statistics, metrics and reports read."""

    minute = models.DateTimeField()
    queue = models.CharField(max_length=50)
    task = models.CharField(max_length=100)
    submitted = models.IntegerField(default=0)
    started = models.IntegerField(default=0)
    succeeded = models.IntegerField(default=0)
    failed = models.IntegerField(default=0)
    retried = models.IntegerField(default=0)
    dead_lettered = models.IntegerField(default=0)
    revoked = models.IntegerField(default=0)
    deaths = models.IntegerField(default=0)
    released = models.IntegerField(default=0)
    fenced = models.IntegerField(default=0)
    republished = models.IntegerField(default=0)
    duplicates = models.IntegerField(default=0)
    wait_buckets = ArrayField(models.IntegerField(), default=list)
    run_buckets = ArrayField(models.IntegerField(), default=list)
    wait_ms_sum = models.BigIntegerField(default=0)
    run_ms_sum = models.BigIntegerField(default=0)

    class Meta:
        ordering = ["-minute", "queue", "task"]
        constraints = [
            models.UniqueConstraint(fields=["minute", "queue", "task"], name="one_rollup_per_minute_queue_and_task")
        ]

    def __str__(self) -> str:
        return f"{self.minute:%Y-%m-%d %H:%M} {self.queue} {self.task}"


class RollupProgress(models.Model):
    """How far the rollups are built, and what they add up to: one row, which the builder holds locked."""

    id = models.SmallIntegerField(primary_key=True, default=1, editable=False)
    frozen_until = models.DateTimeField(help_text="Earlier minutes are never counted again.")
    built_until = models.DateTimeField(help_text="Later minutes have not been counted yet.")
    succeeded = models.BigIntegerField(default=0, help_text="In all frozen minutes, also those deleted since.")
    failed = models.BigIntegerField(default=0, help_text="In all frozen minutes, also those deleted since.")

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="rollups_have_one_progress")]

    def __str__(self) -> str:
        return f"built until {self.built_until:%Y-%m-%d %H:%M}"


class CounterState(models.Model):
    """What all rollups and events before a moment add up to, so that counters outlive both: one row."""

    id = models.SmallIntegerField(primary_key=True, default=1, editable=False)
    until = models.DateTimeField()
    counts = models.JSONField(default=list)
    events = models.JSONField(default=list)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="counters_have_one_state")]

    def __str__(self) -> str:
        return f"counted until {self.until:%Y-%m-%d %H:%M}"


class Report(models.Model):
    """A report about a period; its files are in the row, so no disk has to be shared."""

    class Kind(models.TextChoices):
        HOURLY = "hourly", "Queues, hourly"
        DAILY = "daily", "Queues, daily"
        MONTHLY_SUMMARY = "monthly_summary", "Monthly summary"
        USER_ACTIVITY = "user_activity", "User activity"
        FAILURES = "failures", "Failures"

    kind = models.CharField(max_length=30, choices=Kind.choices)
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    data = models.JSONField(default=dict)
    csv = models.BinaryField(default=bytes)
    pdf = models.BinaryField(null=True)
    job = models.ForeignKey(
        Job, models.DO_NOTHING, db_constraint=False, null=True, db_index=False, related_name="reports"
    )
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(F("kind"), F("period_start").desc(), name="report_latest")]
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "period_start", "period_end"],
                condition=Q(kind__in=["hourly", "daily"]),
                name="one_queue_report_per_period",
            ),
            models.UniqueConstraint(fields=["job"], name="one_report_per_job"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.period_start:%Y-%m-%d %H:%M}"
