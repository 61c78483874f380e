"""Schedules over HTTP: what there is, and running one now."""

import json
from datetime import datetime
from typing import Annotated, Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django_celery_beat.models import PeriodicTask
from ninja import Router, Schema
from pydantic import Field

from api.masking import masked
from api.problems import Problem
from api.tokens import actor, allowed, sees_payloads
from jobs.api.shapes import JobStatus, detailed, status
from jobs.api.submitting import KeyHeader, key_scope, one_key
from jobs.policies import policy
from jobs.schedules import next_run, run_now

router = Router(tags=["schedules"])
ScheduleId = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Schedule(Schema):
    """A row of django-celery-beat; `rule` is its interval, crontab, solar event or time in words."""

    id: int
    name: str
    task_type: str
    enabled: bool
    rule: str
    arguments: list[Any]
    payload: dict[str, Any]
    last_run_at: datetime | None
    next_run_at: datetime | None
    total_run_count: int


@router.get("/schedules", auth=allowed("read", "django_celery_beat.view_periodictask"), response={200: list[Schedule]})
def list_schedules(request: HttpRequest) -> Any:
    """Every schedule, by name."""
    rows = PeriodicTask.objects.select_related("interval", "crontab", "solar", "clocked").order_by("name")
    return [_schedule(row, unmasked=sees_payloads(request)) for row in rows]


@router.post(
    "/schedules/{schedule_id}/run",
    auth=allowed("operate", "jobs.submit_job"),
    response={202: JobStatus},
)
def run_schedule(
    request: HttpRequest, response: HttpResponse, schedule_id: ScheduleId, idempotency_key: KeyHeader
) -> Any:
    """Submit a schedule's job now; its ticks go on as before."""
    schedule = PeriodicTask.objects.filter(pk=schedule_id).first()
    if schedule is None:
        raise Problem("not-found", "There is no schedule with this id.")
    job = run_now(schedule, actor=actor(request), key=one_key(idempotency_key, None), scope=key_scope(request))
    response["Location"] = reverse("api-1:task_status", args=[job.pk])
    if job.replayed:
        response["Idempotency-Replayed"] = "true"
    return status(detailed(job.pk), unmasked=sees_payloads(request))


def _schedule(row: PeriodicTask, *, unmasked: bool) -> dict[str, Any]:
    hidden = () if unmasked else policy(row.task).redacted
    return {
        "id": row.pk,
        "name": row.name,
        "task_type": row.task,
        "enabled": row.enabled,
        "rule": str(row.scheduler),
        "arguments": json.loads(row.args or "[]"),
        "payload": masked(json.loads(row.kwargs or "{}"), hidden),
        "last_run_at": row.last_run_at,
        "next_run_at": next_run(row),
        "total_run_count": row.total_run_count,
    }
