"""Jobs that wait for a person, and the operations that run many of them again."""

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from deadletters.querysets import DeadLetterQuerySet
from jobs.models import Job


class DeadLetter(models.Model):
    """A job out of retries or deaths. Open until somebody replays or drops it; then kept as history."""

    class Cause(models.TextChoices):
        EXHAUSTED = "EXHAUSTED", "Out of retries"
        ABANDONED = "ABANDONED", "Given up by its task"
        POISON = "POISON", "Killed its process too often"
        NOT_STORABLE = "NOT_STORABLE", "Result cannot be stored"
        NOT_REGISTERED = "NOT_REGISTERED", "No worker knows its task"

    class Resolution(models.TextChoices):
        REPLAYED = "REPLAYED", "Replayed"
        DROPPED = "DROPPED", "Dropped"

    job = models.ForeignKey(Job, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="letters")
    attempt = models.IntegerField()
    task = models.CharField(max_length=100)
    queue = models.CharField(max_length=50)
    cause = models.CharField(max_length=20, choices=Cause.choices)
    reason = models.TextField()
    fingerprint = models.CharField(max_length=32)
    signal = models.IntegerField(null=True)
    exit_code = models.IntegerField(null=True)
    worker_name = models.CharField(max_length=200, default="")
    created_at = models.DateTimeField(db_default=Now())

    resolution = models.CharField(max_length=10, choices=Resolution.choices, null=True)
    resolved_at = models.DateTimeField(null=True)
    resolved_by = models.CharField(max_length=150, default="")
    resolved_reason = models.TextField(default="")
    payload_before = models.JSONField(null=True)
    payload_after = models.JSONField(null=True)
    operation = models.ForeignKey("ReplayOperation", models.SET_NULL, null=True, db_index=False, related_name="letters")

    objects = DeadLetterQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]
        permissions = [
            ("replay_deadletter", "Can replay dead letters"),
            ("edit_payload", "Can edit payloads before a replay"),
            ("drop_deadletter", "Can drop dead letters"),
            ("purge_deadletter", "Can purge resolved dead letters"),
        ]
        indexes = [
            models.Index(F("created_at").desc(), F("id").desc(), name="letter_newest"),
            models.Index(fields=["fingerprint", "created_at"], condition=Q(resolution=None), name="letter_open"),
            models.Index(fields=["resolved_at"], condition=~Q(resolution=None), name="letter_resolved"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["job"], condition=Q(resolution=None), name="one_open_letter_per_job"),
            models.UniqueConstraint(fields=["job", "attempt"], name="one_letter_per_attempt"),
            models.CheckConstraint(
                condition=Q(resolution__isnull=True, resolved_at__isnull=True)
                | Q(resolution__isnull=False, resolved_at__isnull=False),
                name="letter_is_resolved_exactly_when_it_says_how",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task} {self.job_id}"

    @property
    def is_open(self) -> bool:
        return self.resolution is None


class ReplayOperation(models.Model):
    """A replay of many letters at a chosen pace; it survives restarts, can be paused, and aborting is final."""

    class State(models.TextChoices):
        RUNNING = "RUNNING", "Running"
        PAUSED = "PAUSED", "Paused"
        ABORTED = "ABORTED", "Aborted"
        DONE = "DONE", "Done"

    filter = models.JSONField(default=dict)
    reason = models.TextField()
    pace = models.FloatField(help_text="Jobs per second.")
    patch = models.JSONField(null=True, help_text="Changes to every payload, as a JSON merge patch.")
    state = models.CharField(max_length=10, choices=State.choices, default=State.RUNNING)
    total = models.IntegerField(default=0)
    done = models.IntegerField(default=0)
    skipped = models.IntegerField(default=0)
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)
    next_at = models.DateTimeField(null=True, editable=False, help_text="When the next letter is due at this pace.")
    driver = models.UUIDField(null=True, editable=False, help_text="The job that carries it on.")

    class Meta:
        ordering = ["-created_at"]
        constraints = [models.CheckConstraint(condition=Q(pace__gt=0), name="replay_pace_is_positive")]

    def __str__(self) -> str:
        return f"replay {self.pk}"


class ReplayItem(models.Model):
    """One letter of an operation and what became of it."""

    class State(models.TextChoices):
        WAITING = "WAITING", "Waiting"
        REPLAYED = "REPLAYED", "Replayed"
        SKIPPED = "SKIPPED", "Skipped"

    operation = models.ForeignKey(ReplayOperation, models.CASCADE, related_name="items", db_index=False)
    letter = models.ForeignKey(DeadLetter, models.DO_NOTHING, db_constraint=False, related_name="items", db_index=False)
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    note = models.TextField(default="")
    at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["operation", "id"]
        constraints = [
            models.UniqueConstraint(fields=["operation", "letter"], name="one_item_per_letter_and_operation"),
            models.UniqueConstraint(
                fields=["letter"], condition=Q(state="WAITING"), name="letter_waits_in_one_operation_only"
            ),
        ]
        indexes = [models.Index(fields=["operation", "state"], name="replay_items_by_state")]

    def __str__(self) -> str:
        return f"{self.letter_id}: {self.state}"
