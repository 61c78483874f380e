"""`manage.py check`: policies that cannot work are refused before anything starts."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from jobs import policies, registry


@register("jobs")
def policies_are_sound(**_: Any) -> list[CheckMessage]:
    path = Path(settings.POLICIES_FILE)
    if not path.exists():
        return [Error(f"POLICIES_FILE {path} does not exist.", id="jobs.E001")]
    found = policies.problems(path) or policies.unknown_tasks(path, set(registry.tasks()))
    return [Error(f"{path.name} {problem}.", id="jobs.E002") for problem in found]
