"""The admin pages of jobs, registered on import."""

from jobs.admin import history, job, schedule, workforce

__all__ = ["history", "job", "schedule", "workforce"]
