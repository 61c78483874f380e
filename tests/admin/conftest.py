"""Browsers of people with different permissions, over committed rows."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from deadletters import admin as letter_admin
from deadletters import triage
from jobs.admin import job as job_admin
from tests.fleet import Fleet, database_url

# The first backend only refuses; a session belongs to the one that knows people.
BY_PASSWORD = "django.contrib.auth.backends.ModelBackend"


@pytest.fixture(autouse=True)
def _committed_rows(at_work: None) -> None:
    pass


@pytest.fixture(autouse=True)
def _static_files(settings: Any, tmp_path: Path) -> None:
    """WhiteNoise warns of a directory that only `collectstatic` makes."""
    settings.STATIC_ROOT = tmp_path


@pytest.fixture
def boss() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("boss"), backend=BY_PASSWORD)
    return client


@pytest.fixture
def person() -> Callable[..., Client]:
    """A member of staff with exactly these permissions."""

    def log_in(*permissions: str) -> Client:
        user = User.objects.create_user(f"person{User.objects.count()}", is_staff=True)
        for name in permissions:
            app, codename = name.split(".")
            user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
        client = Client()
        client.force_login(user, backend=BY_PASSWORD)
        return client

    return log_in


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four rows are too many for one request."""
    for module in (job_admin, letter_admin, triage):
        monkeypatch.setattr(module, "MOST_AT_ONCE", 3)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    ships = Fleet(tmp_path)
    yield ships
    ships.stop()


@pytest.fixture
def in_the_way(fleet: Fleet) -> Iterator[Any]:
    """Holds a row, so that an operation gets as far as that and no further; call `rollback` to let go."""
    with psycopg.connect(database_url()) as other:

        def hold(model: Any, key: Any) -> psycopg.Connection:
            other.execute(f"SELECT FROM {model._meta.db_table} WHERE id = %s FOR UPDATE", [key])
            return other

        yield hold
