"""One row per job: the truth about it. Its idempotency key and its search labels stand beside it."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from jobs.ids import uuid7
from jobs.querysets import JobQuerySet
from jobs.states import FINAL, State


class Job(models.Model):
    """One request to run a task once. Written by `jobs.querysets` only."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    task = models.CharField(max_length=100)
    queue = models.CharField(max_length=50)
    payload = models.JSONField(default=dict)
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    attempt = models.IntegerField(default=0, help_text="The fencing number: one higher at every claim.")
    retries = models.IntegerField(default=0)
    max_retries = models.IntegerField()
    deaths = models.IntegerField(default=0)
    max_deaths = models.IntegerField()

    created_at = models.DateTimeField(db_default=Now())
    run_at = models.DateTimeField(db_default=Now(), help_text="Not before this time.")
    expires_at = models.DateTimeField(null=True)
    dispatched_at = models.DateTimeField(null=True, help_text="When a ticket was last issued; empty: none is out.")
    dispatch_no = models.IntegerField(default=0)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    worker_id = models.UUIDField(null=True)
    child_pid = models.IntegerField(null=True)
    child_ticks = models.BigIntegerField(null=True)
    claim_token = models.UUIDField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)

    progress = models.JSONField(null=True)
    result = models.JSONField(null=True)
    error_code = models.CharField(max_length=100, null=True)
    error = models.TextField(null=True)
    traceback = models.TextField(null=True)
    fingerprint = models.CharField(max_length=32, null=True)

    callback_url = models.TextField(null=True)
    tags = ArrayField(models.CharField(max_length=100), default=list)
    schedule = models.CharField(max_length=200, null=True)
    trace = models.JSONField(null=True)

    # Not a column: whether this submit found the job of an earlier one under the same key.
    replayed = False

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]
        permissions = [
            ("view_payload", "Can see payloads and results unmasked"),
            ("submit_job", "Can submit jobs"),
            ("cancel_job", "Can cancel jobs"),
            ("retry_job", "Can make waiting jobs run now"),
        ]
        # No index may name `state`, nor a column the claim writes, even in its predicate: the claim
        # stays a heap-only update. Only settling, which sets finished_at, touches the indexes.
        indexes = [
            models.Index(F("created_at").desc(), F("id").desc(), name="job_newest"),
            models.Index(fields=["queue", "run_at"], condition=Q(finished_at=None), name="job_unfinished"),
            models.Index(fields=["finished_at"], condition=~Q(finished_at=None), name="job_finished"),
            models.Index(
                fields=["queue", "run_at"], condition=Q(finished_at=None, dispatched_at=None), name="job_undispatched"
            ),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(state__in=State.values), name="job_state_is_known"),
            models.CheckConstraint(
                condition=Q(state__in=FINAL, finished_at__isnull=False)
                | (~Q(state__in=FINAL) & Q(finished_at__isnull=True)),
                name="job_is_finished_exactly_when_its_state_is_final",
            ),
            models.CheckConstraint(
                condition=~Q(state=State.STARTED)
                | Q(worker_id__isnull=False, claim_token__isnull=False, started_at__isnull=False),
                name="job_that_is_started_names_its_worker",
            ),
            models.CheckConstraint(
                condition=Q(attempt__gte=0, retries__gte=0, deaths__gte=0, max_retries__gte=0, max_deaths__gte=1),
                name="job_counters_are_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task} {self.id}"

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def idempotency_key(self) -> str:
        """The key given at submit, else the id: what handlers hand downstream."""
        key = getattr(self, "key", None)
        return key.key if key else str(self.id)


class IdempotencyKey(models.Model):
    """Within one scope a key makes one job. Deleted only with its job."""

    job = models.OneToOneField(Job, models.DO_NOTHING, primary_key=True, db_constraint=False, related_name="key")
    scope = models.CharField(max_length=100, default="")
    key = models.CharField(max_length=255)
    fingerprint = models.BinaryField(help_text="SHA-256 of the request as the caller sent it.")
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["scope", "key"], name="one_job_per_scope_and_key")]

    def __str__(self) -> str:
        return self.key


class JobLabel(models.Model):
    """Something a job can be searched by: `tag:x`, or `field:value` for a policy's searchable fields."""

    job = models.ForeignKey(Job, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="labels")
    label = models.CharField(max_length=300)

    class Meta:
        indexes = [models.Index(F("label"), F("job").desc(), name="job_by_label")]
        constraints = [models.UniqueConstraint(fields=["job", "label"], name="one_label_once_per_job")]

    def __str__(self) -> str:
        return self.label
