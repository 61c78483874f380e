"""Policies: a task's numbers as data, read once from settings.POLICIES_FILE."""

import math
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver

RATE = re.compile(r"^([1-9]\d*)/([smh])$")
SECONDS_PER = {"s": 1, "m": 60, "h": 3600}
DELIVERIES = ("each", "batch")


@dataclass(frozen=True)
class Backoff:
    """Seconds: `base * factor ** retries`, at most `cap`, plus up to `jitter` of that."""

    base: float
    factor: float
    cap: float
    jitter: float


@dataclass(frozen=True)
class Policy:
    """The numbers of one task; limits are in seconds, 0 means none."""

    queue: str
    max_retries: int
    backoff: Backoff
    soft_limit: float
    hard_limit: float
    max_deaths: int
    delivery: str
    atomic: bool
    rate: str
    max_depth: int
    redacted: tuple[str, ...]
    searchable: tuple[str, ...]

    @cached_property
    def is_batch(self) -> bool:
        return self.delivery == "batch"

    @cached_property
    def is_ticketed(self) -> bool:
        """Whether a ticket goes out on commit; a task with a rate gets its tickets from the dispatcher."""
        return not self.rate and not self.is_batch

    @property
    def interval(self) -> float | None:
        """Seconds between two starts, or None when there is no rate."""
        found = RATE.match(self.rate)
        return SECONDS_PER[found[2]] / int(found[1]) if found else None


@dataclass(frozen=True)
class Problem:
    """Something wrong in the policies file, with the line it stands on."""

    line: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}"


def policy(task: str) -> Policy:
    """The policy in force for a task; tasks without a table of their own get [default]."""
    policies = _in_force()
    return policies.get(task) or policies["default"]


def tables() -> list[str]:
    """The tasks that have a table of their own."""
    return [name for name in _in_force() if name != "default"]


def batch_tasks() -> list[str]:
    """The tasks whose jobs have no tickets of their own: a doorbell calls a worker for many."""
    return [name for name in tables() if policy(name).is_batch]


def longest_hard_limit() -> float:
    """Seconds; Redis must not hand a ticket out again before this has passed."""
    return max(each.hard_limit for each in _in_force().values())


def problems(path: Path) -> list[Problem]:
    """Everything wrong in a policies file, each with its line."""
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        return [Problem(int(found[1]) if found else text.count("\n") + 1, f"not valid TOML: {error}")]
    return list(_problems(text, raw))


def unknown_tasks(path: Path, known_tasks: set[str]) -> list[Problem]:
    """The tables of a sound policies file that name no task; only a process that has all tasks can tell."""
    text = path.read_text(encoding="utf-8")
    names = tomllib.loads(text).keys() - known_tasks - {"default"}
    return [Problem(_line(text, name), f"[{name}] names no registered task") for name in sorted(names)]


@cache
def _in_force() -> dict[str, Policy]:
    """Kept, because asking Django for a setting takes as long as all else that a look-up does."""
    return _load(settings.POLICIES_FILE)


@receiver(setting_changed)
def _forget(**_: Any) -> None:
    _in_force.cache_clear()


@cache
def _load(path: Path) -> dict[str, Policy]:
    """Raises ImproperlyConfigured with everything that is wrong: nothing can start on half a policy."""
    if not path.is_file():
        raise ImproperlyConfigured(f"POLICIES_FILE {path} does not exist.")
    if found := problems(path):
        raise ImproperlyConfigured("\n".join(f"{path.name} {problem}." for problem in found))
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: _policy(raw["default"] | table) for name, table in raw.items()}


def _policy(values: dict[str, Any]) -> Policy:
    lists = {name: tuple(values[name]) for name in ("redacted", "searchable")}
    return Policy(**values | lists | {"backoff": Backoff(**values["backoff"])})


def _problems(text: str, raw: dict[str, Any]) -> Iterator[Problem]:
    loose = [name for name, table in raw.items() if not isinstance(table, dict)]
    if loose or "default" not in raw:
        yield from (Problem(_line(text, "", name), f"{name} stands in no table") for name in loose)
        yield from () if "default" in raw else [Problem(1, "the table [default] is missing")]
        return
    for name in sorted({field.name for field in fields(Policy)} - set(raw["default"])):
        yield Problem(_line(text, "default"), f"[default] must set {name}")
    for task, table in raw.items():
        for key, value in table.items():
            if wrong := _wrong(key, value):
                yield Problem(_line(text, task, key), f"[{task}] {key} = {value!r}: {wrong}")
        yield from _contradictions(text, task, raw["default"] | table)


def _contradictions(text: str, task: str, values: dict[str, Any]) -> Iterator[Problem]:
    soft, hard = values.get("soft_limit", 0), values.get("hard_limit", 0)
    if isinstance(soft, (int, float)) and isinstance(hard, (int, float)) and soft >= hard > 0:
        yield Problem(_line(text, task), f"[{task}] soft_limit must be below hard_limit")
    if values.get("delivery") == "batch":
        yield from _contradictions_of_a_batch(text, task, values)


def _contradictions_of_a_batch(text: str, task: str, values: dict[str, Any]) -> Iterator[Problem]:
    """Jobs claimed together die together: each needs a second life, alone, to tell the culprit from the others."""
    if values.get("max_deaths") == 1:
        yield Problem(_line(text, task), f"[{task}] delivery = 'batch' needs max_deaths of 2 or more")
    if values.get("atomic") is True:
        yield Problem(_line(text, task), f"[{task}] atomic needs delivery = 'each'")
    if values.get("rate"):
        yield Problem(_line(text, task), f"[{task}] rate needs delivery = 'each'")


def _wrong(key: str, value: Any) -> str | None:
    """Why this value cannot stand, or None."""
    match key:
        case "queue":
            return None if value in settings.JOB_QUEUES else f"must be one of {', '.join(settings.JOB_QUEUES)}"
        case "max_retries" | "max_depth":
            return None if _is_whole(value) and value >= 0 else "must be a whole number, 0 or more"
        case "max_deaths":
            return None if _is_whole(value) and value >= 1 else "must be a whole number, 1 or more"
        case "soft_limit":
            return None if _is_number(value) and value >= 0 else "must be seconds, 0 or more"
        case "hard_limit":
            return None if _is_number(value) and value > 0 else "must be seconds, more than 0"
        case "backoff":
            return _wrong_backoff(value)
        case "delivery":
            return None if value in DELIVERIES else f"must be one of {', '.join(DELIVERIES)}"
        case "atomic":
            return None if isinstance(value, bool) else "must be true or false"
        case "rate":
            fits = value == "" or (isinstance(value, str) and RATE.match(value))
            return None if fits else 'must look like "100/m"'
        case "redacted" | "searchable":
            names = isinstance(value, list) and all(isinstance(each, str) for each in value)
            return None if names else "must be a list of field names"
    return "is not a policy setting"


def _wrong_backoff(value: Any) -> str | None:
    names = {field.name for field in fields(Backoff)}
    if not isinstance(value, dict) or set(value) != names:
        return "must set base, factor, cap and jitter"
    if not all(_is_number(each) and each >= 0 for each in value.values()):
        return "every number must be 0 or more"
    return None if value["factor"] >= 1 else "factor must be at least 1"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _line(text: str, table: str, key: str = "") -> int:
    """The line of a table ("": before the first), or of a key inside it; 1 when it cannot be found."""
    inside, start = not table, 1
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip().startswith("["):
            inside = line.strip().split("]")[0] == f"[{table}"
            start = number if inside else start
        if inside and (not key or re.match(rf"\s*{re.escape(key)}\s*=", line)):
            return number
    return start
