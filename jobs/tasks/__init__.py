"""The tasks that ship with the project; each declares its arguments by type, its policy stands in policies.toml."""

from jobs.tasks import demonstration, mailing, operations, payments, pipeline, records, webhooks

__all__ = ["demonstration", "mailing", "operations", "payments", "pipeline", "records", "webhooks"]
