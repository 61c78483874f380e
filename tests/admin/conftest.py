"""Browsers of people with different permissions, over committed rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

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
