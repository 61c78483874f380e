"""manage.py as a user runs it: a process of its own, told of the test database."""

import os
import subprocess
import sys
from typing import Any

from django.conf import settings

from tests.fleet import ROOT, database_url


def manage(*arguments: str, stdin: str | bytes = b"", **environment: str) -> subprocess.CompletedProcess[Any]:
    """Run manage.py to its end; stdin is no terminal."""
    told = {"DATABASE_URL": database_url(), "REDIS_URL": settings.REDIS_URL, "DEBUG": "1"}
    inherited = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(  # noqa: PLW1510  its exit code is what the tests are about
        [sys.executable, "manage.py", arguments[0], "--skip-checks", *arguments[1:]],
        cwd=ROOT,
        env=inherited | told | environment,
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        timeout=60,
    )
    done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in done.stderr, done.stderr
    return done
