"""The admin pages of jobs, registered on import."""

from jobs.admin import history, job, operations, schedule, workforce

__all__ = ["history", "job", "operations", "schedule", "workforce"]
