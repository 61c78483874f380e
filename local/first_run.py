"""Brings the database up to date and, once per database, makes the admin account and the API token."""

import hashlib
import os
import secrets
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from local.children import tied
from local.place import CHECKOUT, write_private
from local.stack import Environment

ADMIN = "admin"
SCOPES = "read,submit,operate,metrics"


class SetupFailed(Exception):
    """A step of manage.py that everything else needs did not succeed."""


@dataclass(frozen=True)
class Access:
    token: str
    # Only known to the run that made the account.
    password: str | None


def prepare_database(state: Path, environment: Environment) -> Access:
    """Migrate, and return what opens the panel and the API."""
    _manage(environment, "migrate", "--noinput")
    # A hash: the URL holds a password.
    database = hashlib.sha256(environment["DATABASE_URL"].encode()).hexdigest()
    known, token = state / "prepared-database", state / "api-token"
    if known.exists() and known.read_text() == database and token.exists():
        return Access(token.read_text(), password=None)
    password = _create_admin(environment)
    options = ["--name", "dev", "--scopes", SCOPES, "--owner", ADMIN]
    write_private(token, _manage(environment, "create_api_token", *options).strip().splitlines()[-1])
    known.write_text(database)
    return Access(token.read_text(), password)


def _create_admin(environment: Environment) -> str | None:
    password = secrets.token_urlsafe(12)
    account = {
        "DJANGO_SUPERUSER_USERNAME": ADMIN,
        "DJANGO_SUPERUSER_EMAIL": "admin@example.com",
        "DJANGO_SUPERUSER_PASSWORD": password,
    }
    try:
        _manage({**environment, **account}, "createsuperuser", "--noinput")
    except SetupFailed as failure:
        if "already taken" in str(failure):
            return None
        raise
    return password


def _manage(environment: Environment, *arguments: str) -> str:
    command = [sys.executable, str(CHECKOUT / "manage.py"), *arguments]
    run = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, preexec_fn=tied()
    )
    if run.returncode != 0:
        last_lines = "\n".join((run.stdout + run.stderr).rstrip().splitlines()[-15:])
        raise SetupFailed(f"manage.py {arguments[0]} failed. Its last lines:\n{last_lines}")
    return run.stdout
