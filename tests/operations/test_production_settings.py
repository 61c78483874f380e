"""The settings as production has them: refused when unsafe, clean under `check --deploy`."""

import os
import subprocess
import sys

import pytest

from tests.fleet import ROOT

KEY = "a-key-of-more-than-fifty-characters-with-0123456789-and-many-different-letters"
PRODUCTION = {"SECRET_KEY": KEY, "SITE_URL": "https://jobs.example.com", "ALLOWED_HOSTS": "jobs.example.com"}


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: os.environ[name] for name in ("PATH", "DATABASE_URL", "REDIS_URL") if name in os.environ}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT, env=inherited | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_check_deploy_is_clean() -> None:
    done = manage("check", "--deploy", "--fail-level", "WARNING", **PRODUCTION)
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


@pytest.mark.parametrize("key", ["", "insecure-only-for-development"])
def test_it_refuses_to_start_with_debug_off_and_the_default_secret(key: str) -> None:
    environment = {"SECRET_KEY": key} if key else {}
    done = manage("check", **environment)
    assert done.returncode != 0
    assert "SECRET_KEY must be set when DEBUG is off" in done.stderr


def test_https_is_enforced_where_the_site_is_https_but_not_for_probes() -> None:
    script = (
        "from django.test import Client; c = Client(SERVER_NAME='jobs.example.com', REMOTE_ADDR='10.0.0.1');"
        "a, b = c.get('/admin/login/'), c.get('/healthz');"
        "d = c.get('/admin/login/', headers={'X-Forwarded-Proto': 'https'});"
        "print(a.status_code, a['Location'], b.status_code, d.status_code, d['Strict-Transport-Security']);"
        "print(d.cookies['csrftoken']['secure'], d['Content-Security-Policy'])"
    )
    first, second = manage("shell", "-v", "0", "-c", script, **PRODUCTION).stdout.splitlines()[-2:]
    assert first.split()[:4] == ["301", "https://jobs.example.com/admin/login/", "200", "200"]
    assert "max-age=31536000" in first
    assert second.startswith("True ") and "default-src 'self'" in second


def test_no_message_can_make_a_worker_unpickle() -> None:
    from config.celery import app

    assert app.conf.accept_content == ["json"]
    assert (app.conf.task_serializer, app.conf.result_serializer) == ("json", "json")
    assert not app.conf.result_accept_content or app.conf.result_accept_content == ["json"]
