"""What has happened to a job: attempts that did not succeed, rare events, recorded side effects."""

from django.db import models
from django.db.models import F
from django.db.models.functions import Now

from jobs.models.job import Job


class Attempt(models.Model):
    """One run that ended other than in SUCCESS. Inserted once; only a fenced outcome is ever added."""

    class Outcome(models.TextChoices):
        RETRY = "RETRY", "Failed, tried again"
        FAILURE = "FAILURE", "Failed for good"
        REVOKED = "REVOKED", "Cancelled"
        LOST = "LOST", "Process died"
        RELEASED = "RELEASED", "Given back by a stop"
        FENCED = "FENCED", "Came back too late"

    job = models.ForeignKey(Job, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="attempts")
    number = models.IntegerField()
    outcome = models.CharField(max_length=10, choices=Outcome.choices)
    due_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(db_default=Now())
    worker_id = models.UUIDField(null=True)
    worker_name = models.CharField(max_length=200, default="")
    child_pid = models.IntegerField(null=True)
    claim_token = models.UUIDField(null=True)
    error_code = models.CharField(max_length=100, default="")
    error = models.TextField(default="")
    traceback = models.TextField(default="")
    fingerprint = models.CharField(max_length=32, default="")
    signal = models.IntegerField(null=True)
    exit_code = models.IntegerField(null=True)
    delay = models.FloatField(null=True, help_text="Seconds until the next try.")
    fenced_at = models.DateTimeField(null=True)
    fenced_outcome = models.CharField(max_length=20, null=True)

    class Meta:
        ordering = ["job", "number"]
        indexes = [models.Index(fields=["ended_at"], name="attempt_by_end")]
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="one_row_per_attempt")]

    def __str__(self) -> str:
        return f"attempt {self.number}: {self.outcome}"


class Event(models.Model):
    """A rare transition or an operator's act: the timeline and the audit trail. Never edited."""

    at = models.DateTimeField(db_default=Now())
    job = models.ForeignKey(
        Job, models.DO_NOTHING, db_constraint=False, db_index=False, null=True, related_name="events"
    )
    verb = models.CharField(max_length=50)
    actor = models.CharField(max_length=150, default="")
    reason = models.TextField(default="")
    details = models.JSONField(default=dict)

    class Meta:
        ordering = ["at", "id"]
        indexes = [
            models.Index(fields=["job", "at"], name="event_of_job"),
            models.Index(F("at").desc(), F("verb"), name="event_newest"),
        ]

    def __str__(self) -> str:
        return self.verb


class Effect(models.Model):
    """A side effect that `self.job.once(name, ...)` recorded, so that no later attempt repeats it."""

    job = models.ForeignKey(Job, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="effects")
    name = models.CharField(max_length=200)
    outcome = models.JSONField(null=True)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["job", "name"], name="one_effect_per_name")]

    def __str__(self) -> str:
        return self.name
