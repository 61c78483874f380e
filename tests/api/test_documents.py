"""What is printed in docs/api.md works as printed."""

import json
import os
import re
import subprocess

import httpx

from tests.api.calling import Api, person, session
from tests.fleet import ROOT

DOCUMENT = (ROOT / "docs" / "api.md").read_text()
COMMANDS = re.findall(r"^curl .*$", DOCUMENT, re.MULTILINE)
ANSWERS = [json.loads(line) for line in re.findall(r'^\{"(?:task_id|queued_high|status).*$', DOCUMENT, re.MULTILINE)]


def printed(number: int, api: Api, task_id: str = "") -> dict:
    """The answer of a printed command, run by a shell as a reader would."""
    command = COMMANDS[number].replace("http://127.0.0.1:8000", api.address)
    given = {**os.environ, "TOKEN": api.token, "TASK_ID": task_id}
    done = subprocess.run(["bash", "-c", command], env=given, capture_output=True, text=True, check=True, timeout=60)
    answer = json.loads(done.stdout)
    assert set(ANSWERS[number]) <= set(answer), "the document shows a field that is not there"
    for name, shown in ANSWERS[number].items():
        if isinstance(shown, dict):
            assert set(shown) == set(answer[name]), f"the document shows another {name}"
    return answer


def test_the_five_commands_work_as_printed(api: Api) -> None:
    assert len(COMMANDS) == len(ANSWERS) == 5
    submitted = printed(0, api)
    assert submitted["status"] == "PENDING"
    assert submitted["message"] == ANSWERS[0]["message"] and submitted["priority"] == "high"
    api.followed(submitted["task_id"])
    followed = printed(1, api, submitted["task_id"])
    assert followed["task_id"] == submitted["task_id"] and followed["task_type"] == "send_email"
    assert printed(2, api, (waiting := api.waiting())) == {"task_id": waiting, "status": "revoked"}
    assert all(isinstance(number, int) for number in printed(3, api).values())
    assert printed(4, api) == ANSWERS[4]


def test_the_pages_work_without_the_internet_under_a_strict_policy(api: Api) -> None:
    """Logged in as the admin: a page whose scripts and styles are ours, and none of them inline."""
    assert httpx.get(f"{api.address}/docs").headers["location"] == "/api/docs"
    assert httpx.get(f"{api.address}/api/docs").headers["location"] == "/admin/login/?next=/api/docs"
    person()
    with session(api.address) as browser:
        page = browser.get("docs")
        policy = page.headers["content-security-policy"]
        assert "script-src 'self'" in policy and "style-src 'self'" in policy and "unsafe" not in policy
        linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert linked and all(url.startswith("/static/") for url in linked)
        assert not re.search(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)", page.text)
        for url in linked:
            assert browser.get(api.address + url).status_code == 200, url
        assert browser.get("openapi.json").json()["openapi"] == "3.1.0"
