"""The HTTP API: what the apps offer, mounted in one place."""

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from ninja.openapi.docs import ABS_TPL_PATH, Swagger
from ninja.openapi.views import openapi_view

from api.contract import ContractAPI
from api.tokens import allowed
from deadletters.api import letters, replays
from jobs.api import acting, bulk, following, listing, schedules, submitting
from jobs.api.refusals import ANSWERS
from monitoring.api import load, reports


class OwnSwagger(Swagger):
    """With the scripts that ninja brings along, which it otherwise has for itself as an installed app only."""

    template_cdn = f"{ABS_TPL_PATH}/swagger.html"


api = ContractAPI(
    title="Switchyard",
    version="1",
    description="Submit jobs, follow them, cancel them, and decide about those that did not recover.",
    auth=allowed("read", "jobs.view_job"),
    docs=OwnSwagger(),
    openapi_url=None,
    docs_url=None,
)
for error, answer in ANSWERS.items():
    api.add_exception_handler(error, answer)
# Addresses with fixed names come before those with an id in the same place.
for part in (submitting, bulk, listing, following, acting, letters, replays, schedules, load, reports):
    api.add_router("", part.router)


@api.get("/openapi.json", include_in_schema=False, url_name="openapi-json", auth=allowed("", ""))
def document(request: HttpRequest) -> object:
    """This API in OpenAPI 3.1, for any token."""
    return api.get_openapi_schema()


def docs(request: HttpRequest) -> HttpResponse:
    """The API to try out, with the session of the person looking."""
    if not request.user.is_authenticated or not request.user.is_staff:
        return redirect_to_login(request.get_full_path(), reverse("admin:login"))
    return openapi_view(request, api=api)
