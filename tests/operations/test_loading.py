"""What a worker has in memory: the jobs, and nothing of what only the web, a command or a report needs."""

import os
import subprocess
import sys

import pytest

from local.roster import FLOWER
from tests.fleet import ROOT

# Started as a worker is, checks included, with a report's addresses in its mail; then what it has loaded.
_LOADED = """
import sys
from config.celery import app
app.loader.import_default_modules()
from monitoring import reports
from monitoring.models import Report
reports.url(Report(pk=1), "report")
print(*sys.modules)
"""
# The celery command loads every plugin that is installed, whichever of its commands runs.
_COMMAND = """
import sys
import celery.bin.celery
print(*sys.modules)
"""
# What manage.py checks before a command.
_CHECKED = """
import django
from django.contrib.admin import ModelAdmin
from django.core import checks
django.setup()
seen, check = [], ModelAdmin.check
ModelAdmin.check = lambda page, **about: seen.append(page) or check(page, **about)
checks.run_checks()
print(len(seen))
"""


def say(program: str, **environment: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
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
        "flower",
        "tornado",
    ],
)
def test_a_worker_does_not_load(loaded: list[str], module: str) -> None:
    assert module not in loaded
    assert "jobs.tasks.webhooks" in loaded


def test_the_celery_command_loads_flower_only_where_its_own_process_finds_it() -> None:
    flowers = {"flower", "tornado"}
    assert not flowers & set(say(_COMMAND).split())
    assert flowers <= set(say(_COMMAND, PYTHONPATH=str(FLOWER)).split())


def test_manage_py_still_checks_every_page_of_the_admin() -> None:
    assert int(say(_CHECKED)) > 20
