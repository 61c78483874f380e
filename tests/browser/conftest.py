"""A real browser on a real panel: web, worker, dispatcher, PostgreSQL and Redis, shared by all tests here."""

import importlib
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any
from urllib.request import urlopen

import pytest
import redis
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.test import Client
from selenium import webdriver

from local.readiness import free_port
from tests.browser.person import Person
from tests.conftest import empty_tables
from tests.fleet import ROOT, Fleet
from tests.waiting import eventually

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


# The first backend only refuses; a session belongs to the one that knows people.
BY_PASSWORD = "django.contrib.auth.backends.ModelBackend"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/browser/" in item.nodeid:
            item.add_marker(pytest.mark.needs_debian("chromium", "chromium-driver"))


@pytest.fixture(scope="package")
def panel(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: Any) -> Iterator[str]:
    """The address of a panel whose jobs really run."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs Debian's chromium and chromium-driver")
    with django_db_blocker.unblock():
        redis.Redis.from_url(settings.REDIS_URL).flushdb()
        importlib.import_module("monitoring.migrations.0006_roles").create(apps, None)
        fleet = Fleet(tmp_path_factory.mktemp("logs"))
        address = f"http://127.0.0.1:{free_port()}"
        try:
            web = _web(fleet, address)
            fleet.worker("w", size=3)
            fleet.dispatcher()
            eventually(lambda: _answers(address, web), within=60, what="the web process to answer")
            yield address
        finally:
            fleet.stop()
            empty_tables()


@pytest.fixture(scope="package")
def chromium(tmp_path_factory: Any) -> Iterator[webdriver.Chrome]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs Debian's chromium and chromium-driver")
    # It keeps files of every page it was at; with the usual 1,024 its tab crashes after some hundred pages.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*QUIET, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}", "--window-size=1400,1000"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture
def person(panel: str, chromium: webdriver.Chrome) -> Iterator[Callable[..., Person]]:
    """Somebody at the browser, logged in with a role; no role is a superuser."""

    def come(role: str | None = None, *, log_in: bool = True) -> Person:
        name = role or "mira"
        user, is_new = User.objects.get_or_create(
            username=name, defaults={"is_staff": True, "is_superuser": role is None}
        )
        if is_new:
            user.set_password("correct horse 1")
            user.save()
        if role:
            # Nobody has given a newcomer a role yet.
            user.groups.set(Group.objects.filter(name=role))
        someone = Person(chromium, panel)
        if log_in:
            client = Client()
            client.force_login(user, backend=BY_PASSWORD)
            someone.show_pass(client.cookies[settings.SESSION_COOKIE_NAME].value)
        return someone

    yield come
    for changed in ("Emulation.setEmulatedMedia", "Emulation.clearDeviceMetricsOverride"):
        chromium.execute_cdp_cmd(changed, {})
    chromium.delete_all_cookies()
    chromium.get("about:blank")


def _web(fleet: Fleet, address: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "uvicorn", "config.asgi:application", "--host", "127.0.0.1"]
    with (fleet.logs / "web.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--port", address.rpartition(":")[2]], cwd=ROOT, env=fleet._environment(), stdout=log, stderr=log
        )
    fleet.processes["web"] = process
    return process


def _answers(address: str, web: "subprocess.Popen[bytes]") -> bool:
    assert web.poll() is None, "the web process ended; see its log"
    try:
        with urlopen(f"{address}/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
