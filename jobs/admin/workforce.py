"""Processes and queues in the admin."""

from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from api.confirmation import ActingAdmin
from api.readfirst import ReadFirstAdmin, ago
from jobs.admin.acts import QUEUE_VERBS
from jobs.admin.hands import WORKER_VERBS
from jobs.models import Batch, Pace, Queue, Worker

LAMPS = {Worker.State.UP: "success", Worker.State.STOPPING: "retry", Worker.State.DEAD: "idle"}


class WithButtons(ActingAdmin):
    """A list whose last column does to a row what can be done to it."""

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """The buttons are those of the person who looks."""

        @admin.display(description="")
        def c_buttons(row: Any) -> SafeString:
            here = urlencode({"next": request.get_full_path()})
            links = [(f"{address}?{here}", verb.label) for verb, address in self.buttons(request, row)]
            return format_html_join(" ", '<a class="button soft small" href="{}">{}…</a>', links)

        return [*self.list_display, c_buttons]


@admin.register(Worker)
class WorkerAdmin(WithButtons):
    list_display = ("c_name", "kind", "takes", "processes", "host", "pid", "heartbeat", "started")
    list_display_links = None
    list_filter = ("state", "kind")
    ordering = ("-heartbeat_at", "-pk")
    fields = ("kind", "state", "takes", "processes", "started_at", "heartbeat_at", "stop_requested_at", "lease_until",
              "host", "pid", "boot_id", "pid_ns")  # fmt: skip
    verbs = WORKER_VERBS
    lede = "Processes that keep the house running, those that beat last first."
    empty_title = "No process has enlisted yet"
    empty_text = "Start a worker, a dispatcher and beat; each shows itself here within seconds."

    @admin.display(description="process")
    def c_name(self, worker: Worker) -> SafeString:
        page = reverse("admin:jobs_worker_change", args=[worker.pk])
        text = '<span class="state state-{}">{}</span> <a class="job-link" href="{}">{}</a>'
        lamp = LAMPS[Worker.State(worker.state)]
        return format_html(text, lamp, worker.get_state_display(), page, worker.name)

    @admin.display(description="queues")
    def takes(self, worker: Worker) -> str:
        return ", ".join(worker.queues)

    @admin.display(description="processes")
    def processes(self, worker: Worker) -> str:
        return str(worker.concurrency or "")

    @admin.display(description="heartbeat")
    def heartbeat(self, worker: Worker) -> str:
        return ago(worker.heartbeat_at)

    @admin.display(description="started")
    def started(self, worker: Worker) -> str:
        return ago(worker.started_at)


@admin.register(Queue)
class QueueAdmin(WithButtons):
    list_display = ("name", "status", "depth", "oldest", "running", "sampled")
    verbs = QUEUE_VERBS
    lede = "What waits and what runs, as the dispatcher last saw it. A paused queue keeps its jobs."
    empty_title = "No queue has been looked at yet"
    empty_text = "The dispatcher looks at every queue each second: start one with manage.py dispatcher."

    def row_to_act_on(self, request: HttpRequest, object_id: str) -> Queue | None:
        """A declared queue may be paused before anybody has looked at it."""
        row = self.get_object(request, object_id)
        return row or (Queue(name=object_id) if object_id in settings.JOB_QUEUES else None)

    def status(self, queue: Queue) -> SafeString:
        if not queue.is_paused:
            return format_html('<span class="state state-{}">{}</span>', "success", "Flowing")
        said = ": ".join(filter(None, [queue.paused_by, queue.pause_reason]))
        return format_html('<span class="state state-retry">Paused</span> <span class="hint">{}</span>', f"by {said}")

    @admin.display(description="oldest due")
    def oldest(self, queue: Queue) -> str:
        return ago(queue.oldest_due_at)

    @admin.display(description="sampled")
    def sampled(self, queue: Queue) -> str:
        return ago(queue.sampled_at)


@admin.register(Batch)
class BatchAdmin(ReadFirstAdmin):
    list_display = ("queue", "worker_id", "child_pid", "first_run_at", "last_run_at")
    lede = "What each process that takes many short jobs at once claimed last, for finding them if it dies."
    ordering = ("-pk",)


@admin.register(Pace)
class PaceAdmin(ReadFirstAdmin):
    list_display = ("task", "next_at")
    lede = "When the next job of each task with a rate may start."
