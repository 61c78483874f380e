"""Calling the API as a client does."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client

from api.models import SCOPES, ApiToken


class Api(httpx.Client):
    """A client of the API with a token, or with nothing."""

    def __init__(self, address: str, token: str = "", **options: Any) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        super().__init__(
            base_url=f"{address}/api/", headers=headers, timeout=60, trust_env=False, verify=False, **options
        )
        self.address = address
        self.token = token
        self.csrf: dict[str, str] = {}

    def submit(self, task: str = "flaky", payload: Any = None, **fields: Any) -> httpx.Response:
        headers = fields.pop("headers", {})
        given = {"failures": 0} if payload is None and task == "flaky" else payload or {}
        return self.post("tasks/submit", json={"task_type": task, "payload": given, **fields}, headers=headers)

    def submitted(self, task: str = "flaky", payload: Any = None, **fields: Any) -> str:
        """The id of a new job."""
        answer = self.submit(task, payload, **fields)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["task_id"])

    def waiting(self, **fields: Any) -> str:
        """The id of a job that does not start before the year 2100."""
        return self.submitted(run_at="2100-01-01T00:00:00Z", **fields)

    def followed(self, task_id: str, timeout: float = 60) -> dict[str, Any]:
        answer = self.get(f"tasks/{task_id}/wait", params={"timeout": timeout})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def person(name: str = "admin", *permissions: str, **fields: Any) -> Any:
    """A user of the admin; without permissions, one who may everything."""
    people: Any = get_user_model()._default_manager
    user, _ = people.update_or_create(
        username=name, defaults={"is_staff": True, "is_superuser": not permissions, "is_active": True} | fields
    )
    wanted = [permission.split(".") for permission in permissions]
    user.user_permissions.set(
        Permission.objects.get(content_type__app_label=app, codename=codename) for app, codename in wanted
    )
    return user


def token(*scopes: str, owner: Any = None, **fields: Any) -> str:
    """The secret of a new token."""
    given = {"name": "test", "owner": owner or person(), "scopes": list(scopes or SCOPES)} | fields
    return ApiToken.issue(**given)[1]


@contextmanager
def session(address: str, name: str = "admin") -> Iterator[Api]:
    """A client with the cookies of somebody logged in to the admin; `csrf` is what the admin's pages would send."""
    browser = Client()
    user = get_user_model()._default_manager.get(username=name)
    browser.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    secret = "a" * 32
    cookies = {"sessionid": browser.cookies["sessionid"].value, "csrftoken": secret}
    with Api(address, cookies=cookies) as api:
        api.csrf = {"X-CSRFToken": secret}
        yield api


def is_problem(answer: httpx.Response, status: int, kind: str) -> bool:
    """Whether a refusal has the right status, type and media type."""
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    assert (answer.status_code, body["type"]) == (status, f"urn:switchyard:problem:{kind}"), answer.text
    assert body["status"] == status and body["title"] and body["detail"]
    return True
