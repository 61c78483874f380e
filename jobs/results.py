"""The result backend: a job's result is its row; every other task's is django-celery-results'."""

from typing import Any
from uuid import UUID

from celery import states
from celery.app.task import Context
from django.core.exceptions import ValidationError
from django_celery_results.backends import DatabaseBackend

from jobs.errors import JobFailed
from jobs.models import Job


class JobResults(DatabaseBackend):
    """`AsyncResult(job.id)` reads the job; nothing is ever written for one, its settlement already has."""

    def store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: Any = None,
        request: Context | None = None,
        **kwargs: Any,
    ) -> Any:
        if _is_job(self.app, request):
            return result
        return super().store_result(task_id, result, state, traceback=traceback, request=request, **kwargs)

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        job = _job(task_id)
        return _meta(job) if job else super()._get_task_meta_for(task_id)

    def _forget(self, task_id: str) -> None:
        if _job(task_id) is None:
            super()._forget(task_id)


def _is_job(app: Any, request: Context | None) -> bool:
    """By the task's class, without a query."""
    name = getattr(request, "task", None)
    return bool(name) and getattr(app.tasks.get(name), "is_job", False)


def _job(task_id: str) -> Job | None:
    try:
        return Job.objects.filter(pk=UUID(str(task_id))).first()
    except (ValueError, ValidationError):
        return None


def _meta(job: Job) -> dict[str, Any]:
    failed = job.state in (states.FAILURE, states.RETRY)
    error = JobFailed(f"{job.error_code}: {job.error}") if failed else None
    return {
        "task_id": str(job.id),
        "status": job.state,
        "result": error if failed else job.result,
        "traceback": job.traceback,
        "children": [],
        "date_done": job.finished_at,
        "name": job.task,
        "retries": job.retries,
    }
