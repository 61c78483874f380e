"""Processes and queues in the admin."""

from django.contrib import admin

from api.confirmation import ActingAdmin
from api.readfirst import ReadFirstAdmin, ago
from jobs.admin.acts import QUEUE_VERBS
from jobs.models import Queue, Worker


@admin.register(Worker)
class WorkerAdmin(ReadFirstAdmin):
    list_display = ("name", "kind", "state", "host", "pid", "takes", "concurrency", "heartbeat", "started")
    list_filter = ("state", "kind")
    ordering = ("-heartbeat_at", "-pk")

    @admin.display(description="queues")
    def takes(self, worker: Worker) -> str:
        return ", ".join(worker.queues)

    @admin.display(description="heartbeat")
    def heartbeat(self, worker: Worker) -> str:
        return ago(worker.heartbeat_at)

    @admin.display(description="started")
    def started(self, worker: Worker) -> str:
        return ago(worker.started_at)


@admin.register(Queue)
class QueueAdmin(ActingAdmin):
    list_display = ("name", "status", "depth", "oldest", "running", "sampled")
    verbs = QUEUE_VERBS

    def status(self, queue: Queue) -> str:
        return f"paused by {queue.paused_by}: {queue.pause_reason}" if queue.is_paused else "running"

    @admin.display(description="oldest due")
    def oldest(self, queue: Queue) -> str:
        return ago(queue.oldest_due_at)

    @admin.display(description="sampled")
    def sampled(self, queue: Queue) -> str:
        return ago(queue.sampled_at)
