"""Lists: jobs by what they are and say, and the tasks there are."""

from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema

from api.bodies import unstorable
from api.moments import Moment
from api.paging import decoded
from api.parameters import Cursor, Limit, also_under
from api.problems import invalid_parameter
from api.tokens import allowed, sees_payloads
from jobs import registry
from jobs.api import shapes
from jobs.browsing import LOOKED_AT, Wanted, browse
from jobs.policies import policy
from jobs.states import State

router = Router(tags=["tasks"], auth=allowed("read", "jobs.view_job"))
PAYLOAD = "payload."
ABOUT_PAYLOAD = (
    "`payload.<path>=<value>` narrows by what a payload says, e.g. `payload.user_id=7`, as often as wanted. "
    "Fields a policy lists as searchable are looked up; others are looked for in the newest "
    f"{LOOKED_AT:,} jobs per page, and so are filters without a tag: then `complete` is false, and `next` goes on."
)
Text = Annotated[str | None, Query(None, max_length=300)]
Time = Annotated[Moment | None, Query(None)]


class JobPage(Schema):
    items: list[shapes.JobSummary]
    next: str | None = Field(description="Cursor of the next page; null: there is none.")
    complete: bool = Field(description="False: this page looked at a bounded part of the table only.")


class TaskType(Schema):
    name: str
    description: str
    policy: dict[str, Any]
    payload_schema: dict[str, Any]


@router.get("/tasks", response={200: JobPage}, description=f"Jobs, newest first. {ABOUT_PAYLOAD}")
@also_under(PAYLOAD)
def list_tasks(
    request: HttpRequest,
    *,
    cursor: Cursor,
    limit: Limit,
    status: Annotated[State | None, Query(None)],
    task_type: Text,
    queue: Text,
    tag: Text,
    fingerprint: Text,
    since: Time,
    until: Time,
) -> Any:
    wanted = Wanted(
        status=status,
        task=task_type,
        queue=queue,
        tag=tag,
        fingerprint=fingerprint,
        since=since,
        until=until,
        payload=_payload_filters(request),
    )
    _refuse_unstorable(request)
    found, complete = browse(wanted, decoded(cursor, UUID) if cursor else None, limit)
    return {"items": [shapes.summary(job) for job in found.rows], "next": found.next, "complete": complete}


@router.get("/task-types", response={200: list[TaskType]})
def list_task_types(request: HttpRequest) -> Any:
    """Every task that can be submitted, with its policy and the JSON Schema of its payload."""
    return [_described(name, task) for name, task in sorted(registry.tasks().items())]


def _described(name: str, task: Any) -> dict[str, Any]:
    return {
        "name": name,
        "description": (task.__doc__ or "").strip().partition("\n")[0],
        "policy": asdict(policy(name)),
        "payload_schema": registry.arguments(task).model_json_schema(),
    }


def _payload_filters(request: HttpRequest) -> dict[str, str]:
    """The filters on payloads; what a caller may not see, they may not ask about either."""
    given = request.GET.dict()
    asked = {name.removeprefix(PAYLOAD): str(text) for name, text in given.items() if name.startswith(PAYLOAD)}
    if not asked or sees_payloads(request):
        return asked
    redacted = {field for task in registry.tasks() for field in policy(task).redacted}
    for path in asked:
        if redacted & set(path.split(".")):
            raise invalid_parameter(PAYLOAD + path, "is a redacted field; this caller may not search by it")
    return asked


def _refuse_unstorable(request: HttpRequest) -> None:
    for name, text in request.GET.items():
        if found := unstorable(name) or unstorable(str(text)):
            raise invalid_parameter(name, f"contains {found}, which no job can hold")
