"""What `up` says once everything runs: how to get in, and what to try."""

import json
from dataclasses import replace

from local.banner import Banner
from local.first_run import Access

FIRST = Banner("http://127.0.0.1:8123", Access("swy_token", "pass-word"), flower_port=None, flower_login="flower:x")


def test_the_first_run_shows_login_token_and_commands_that_can_be_pasted():
    said = FIRST.as_text()
    assert "Panel    http://127.0.0.1:8123/   login admin / pass-word   (shown this once)" in said
    for path in ("workers/stats", "queues"):
        assert f"curl -H 'Authorization: Bearer swy_token' http://127.0.0.1:8123/api/{path}\n" in said
    for command in ("submit_jobs --mix 1000 --wait", "submit_jobs --task flaky", "dlq list"):
        assert f"python3 dev.py manage {command}" in said
    assert said.count("pass-word") == 1
    assert "pass-word" in FIRST.farewell()
    assert "Flower" not in said and "Metrics" not in said


def test_a_later_run_says_how_to_get_a_new_password():
    later = replace(FIRST, access=Access("swy_token", None))
    for said in (later.as_text(), later.farewell()):
        assert "login admin   (new password: python3 dev.py manage changepassword admin)" in said


def test_what_was_asked_for_beside_it_is_named_too():
    said = replace(FIRST, flower_port=5555, metrics_port=9090).as_text()
    assert "http://127.0.0.1:5555/   login flower:x" in said
    assert "http://127.0.0.1:9090/   (Prometheus)" in said


def test_as_json_it_is_one_line():
    [line] = FIRST.as_json().splitlines()
    assert json.loads(line)["access"] == {"token": "swy_token", "password": "pass-word"}
