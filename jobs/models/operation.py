"""Acts on so many rows that they are worked through in the background."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class BulkOperation(models.Model):
    """A verb for every job that matches a filter. It survives restarts; aborting it is final."""

    class State(models.TextChoices):
        RUNNING = "RUNNING", "Running"
        ABORTED = "ABORTED", "Aborted"
        DONE = "DONE", "Done"

    verb = models.CharField(max_length=20)
    filter = models.JSONField(default=dict)
    reason = models.TextField(default="")
    state = models.CharField(max_length=10, choices=State.choices, default=State.RUNNING)
    total = models.IntegerField(default=0, help_text="Rows that matched at the start.")
    done = models.IntegerField(default=0)
    skipped = models.IntegerField(default=0)
    skips = models.JSONField(default=dict, help_text="Rows left alone, by reason.")
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)
    position = models.CharField(max_length=36, null=True, editable=False, help_text="The last row it has dealt with.")
    driver = models.UUIDField(null=True, editable=False, help_text="The job that carries it on.")

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(state="RUNNING", finished_at__isnull=True)
                | (~Q(state="RUNNING") & Q(finished_at__isnull=False)),
                name="bulk_operation_is_finished_exactly_when_it_runs_no_more",
            )
        ]

    def __str__(self) -> str:
        return f"bulk operation {self.pk}"
