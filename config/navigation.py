"""The panel's sidebar: where to go, and what waits there."""

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from monitoring.house import House


@dataclass(frozen=True)
class Place:
    """`counts` names the number of the house that stands beside it; `area` is where else one is still there."""

    label: str
    view: str
    permission: str
    counts: str = ""
    is_loud: bool = False
    area: str = ""


PLACES: dict[str, tuple[Place, ...]] = {
    "Operate": (
        Place("Overview", "admin:index", ""),
        Place("Jobs", "admin:jobs_job_changelist", "jobs.view_job"),
        Place("Bulk operations", "admin:jobs_bulkoperation_changelist", "jobs.view_job"),
        Place("Dead letters", "admin:deadletters_groups", "deadletters.view_deadletter", "groups", is_loud=True,
              area="/deadletters/deadletter/"),
        Place("Replays", "admin:deadletters_replayoperation_changelist", "deadletters.view_replayoperation"),
        Place("Queues", "admin:jobs_queue_changelist", "jobs.view_queue"),
        Place("Workers", "admin:jobs_worker_changelist", "jobs.view_worker", "workers"),
    ),
    "Schedule": (
        Place(
            "Periodic tasks", "admin:django_celery_beat_periodictask_changelist", "django_celery_beat.view_periodictask"
        ),
        Place(
            "Intervals", "admin:django_celery_beat_intervalschedule_changelist",
            "django_celery_beat.view_intervalschedule",
        ),
        Place(
            "Crontabs", "admin:django_celery_beat_crontabschedule_changelist",
            "django_celery_beat.view_crontabschedule",
        ),
    ),
    "Know": (
        Place("Reports", "admin:monitoring_report_changelist", "monitoring.view_report", area="/reports/"),
        Place("Policies", "admin:jobs_policies", "jobs.view_job"),
        Place("Audit trail", "admin:jobs_event_changelist", "jobs.view_event"),
    ),
    "Access": (
        Place("Users", "admin:auth_user_changelist", "auth.view_user"),
        Place("Roles", "admin:auth_group_changelist", "auth.view_group"),
        Place("API tokens", "admin:api_apitoken_changelist", "api.view_apitoken"),
    ),
}  # fmt: skip


def navigation(request: HttpRequest, house: House) -> list[dict[str, Any]]:
    """The sections with what this person may see, and where they are."""
    sections = [
        {"title": title, "entries": [_entry(place, request, house) for place in places if _may(request, place)]}
        for title, places in PLACES.items()
    ]
    entries: list[Any] = [entry for section in sections for entry in section["entries"]]
    here = [entry for entry in entries if _is_here(entry, request.path)]
    if here:
        max(here, key=lambda entry: len(entry["address"]))["is_current"] = True
    return [section for section in sections if section["entries"]]


def _may(request: HttpRequest, place: Place) -> bool:
    return not place.permission or request.user.has_perm(place.permission)


def _entry(place: Place, request: HttpRequest, house: House) -> dict[str, Any]:
    count = getattr(house, place.counts) if place.counts else None
    address = reverse(place.view)
    loud = place.is_loud and count
    return {"label": place.label, "address": address, "area": place.area, "count": count, "is_loud": loud}


def _is_here(entry: dict[str, Any], path: str) -> bool:
    if entry["address"] == reverse("admin:index"):
        return path == entry["address"]
    return path.startswith(entry["address"]) or bool(entry["area"] and entry["area"] in path)
