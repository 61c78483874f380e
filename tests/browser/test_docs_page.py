"""The page on which the API can be tried out, in a real browser and under the policy of every other page."""

import json
from collections.abc import Callable
from urllib.parse import urlsplit

from django.contrib.auth.models import User

from api.models import ApiToken
from tests.browser.person import Person

Come = Callable[..., Person]
STATS = "#operations-monitoring-worker_stats"
ANSWER = f"{STATS} .live-responses-table tbody"


def test_it_shows_every_operation_and_asks_nobody_else(person: Come) -> None:
    mira = person()
    mira.complaints()
    mira.asked_hosts()
    mira.open("/docs")
    mira.waits(lambda: mira.all(STATS), "the operations")
    assert urlsplit(mira.driver.current_url).path == "/api/docs"
    document = mira.run(
        "const request = new XMLHttpRequest(); request.open('GET', '/api/openapi.json', false); request.send();"
        "return JSON.parse(request.responseText)"
    )
    documented = {operation["operationId"] for path in document["paths"].values() for operation in path.values()}
    shown = {block.get_attribute("id").rpartition("-")[2] for block in mira.all(".opblock")}
    assert shown == documented and len(shown) > 30
    assert mira.complaints() == []
    assert mira.asked_hosts() == {urlsplit(mira.address).netloc}


def test_a_get_is_tried_out_with_a_token(person: Come) -> None:
    mira = person()
    _, secret = ApiToken.issue(name="docs page", owner=User.objects.get(username="mira"), scopes=["read"])
    mira.open("/api/docs")
    mira.waits(lambda: mira.all(STATS), "the operations")
    mira.press("Authorize")
    mira.waits(lambda: mira.all(".auth-container input"), "the form for credentials")
    mira.write(".auth-container input", secret).click(".auth-btn-wrapper .authorize").click(".btn-done")
    # Without the session, the answer can be due to the token only.
    mira.driver.delete_all_cookies()
    mira.click(f"{STATS} .opblock-summary-control")
    mira.waits(lambda: mira.all(f"{STATS} .try-out__btn"), "the button to try it out")
    mira.click(f"{STATS} .try-out__btn").click(f"{STATS} .execute")
    mira.sees("workers_online", css=f"{ANSWER} .response-col_description")
    body = mira.find(f"{ANSWER} .response-col_description code").get_attribute("textContent")
    assert json.loads(body)["workers_online"] == 1
    assert mira.text(f"{ANSWER} .response-col_status").startswith("200")
    assert mira.complaints() == []


def test_it_is_for_people_of_the_admin_only(person: Come) -> None:
    nobody = person(log_in=False)
    nobody.driver.delete_all_cookies()
    nobody.open("/docs")
    assert urlsplit(nobody.driver.current_url).path == "/admin/login/"
