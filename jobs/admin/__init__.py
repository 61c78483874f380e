"""The admin pages of jobs, registered on import."""

from jobs.admin import history, job, workforce

__all__ = ["history", "job", "workforce"]
