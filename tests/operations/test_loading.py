"""What a worker has in memory: the jobs, and nothing of what only the web, a command or a report needs."""

import subprocess
import sys

import pytest

from tests.fleet import ROOT

# Started as a worker is, up to the checks; then what it has loaded, or what the checks of manage.py look at.
_LOADED = """
import sys
from config.celery import app
app.loader.import_default_modules()
print(*sys.modules)
"""
_CHECKED = """
import sys, django
from django.core import checks
django.setup()
checks.run_checks(tags=["admin"])
from django.contrib import admin
print(len(admin.site._registry))
"""


def say(program: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return run.stdout


@pytest.fixture(scope="module")
def loaded() -> list[str]:
    return say(_LOADED).split()


@pytest.mark.parametrize(
    "module",
    [
        "ninja",
        "django.test",
        "config.urls",
        "jobs.admin",
        "jobs.api",
        "rich",
        "fsspec",
        "reportlab",
        "prometheus_client",
    ],
)
def test_a_worker_does_not_load(loaded: list[str], module: str) -> None:
    assert module not in loaded
    assert "jobs.tasks.webhooks" in loaded


def test_manage_py_still_checks_every_page_of_the_admin() -> None:
    assert int(say(_CHECKED)) > 20
