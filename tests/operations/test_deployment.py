"""docker-compose.yml, Dockerfile and .env.example against what exists, since nothing here can start a container."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from django.core.management import get_commands

from jobs.models import Worker
from local.roster import FLOWER
from tests.fleet import ROOT
from tests.operations.shows.image import RELEASES, Image, answers_as_the_container_would, build, instructions, without

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
DOCKERFILE = (ROOT / "Dockerfile").read_text()
STAGES = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", DOCKERFILE, re.MULTILINE)
EXAMPLE = (ROOT / ".env.example").read_text()
SOURCE = "".join(path.read_text() for path in (ROOT / "config").glob("*.py"))
# Of Flower and of uvicorn.
NOT_OURS = {"FLOWER_BASIC_AUTH", "FORWARDED_ALLOW_IPS"}
WITH_FLOWER = {"PYTHONPATH": str(FLOWER)}
WORKERS = {"worker_high", "worker_default", "worker_low", "worker_solo"}
PROCESSES = WORKERS | {"migrate", "web", "beat", "dispatcher", "watch", "flower"}
THEIRS = {"postgres", "redis", "prometheus", "grafana", "mail"}


def words(service: str) -> list[str]:
    return [str(word) for word in SERVICES[service]["command"]]


def variables(text: str) -> set[str]:
    return set(re.findall(r"\$\{(\w+)", text))


def test_the_file_follows_the_compose_specification() -> None:
    check = [str(Path(sys.executable).parent / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*check, "docker-compose.yml"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_service_is_there_and_ours_are_one_image_but_flowers() -> None:
    assert SERVICES.keys() == PROCESSES | THEIRS
    assert OURS.keys() == PROCESSES
    built = {name: (service["image"], service["build"]) for name, service in OURS.items()}
    assert built.pop("flower") == ("switchyard-flower", {"context": ".", "target": "flower"})
    assert set(built.values()) == {("switchyard", ".")}


@pytest.mark.parametrize("name", OURS)
def test_every_command_of_ours_exists(name: str) -> None:
    program, *rest = words(name)
    known = {"python": ["manage.py"], "celery": ["-A", "config"], "uvicorn": ["config.asgi:application"]}
    assert rest[: len(known[program])] == known[program]
    if program == "python":
        assert rest[1] in get_commands()
    if program == "celery":
        done = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "config", rest[2], "--help"],
            cwd=ROOT, env={**os.environ, "DEBUG": "1", **(WITH_FLOWER if name == "flower" else {})},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        options = {word.partition("=")[0] for word in rest[3:] if word.startswith("-")}
        assert done.returncode == 0, done.stderr
        # Flower's own options are tornado's and not in the help of the command.
        assert rest[2] == "flower" or all(option in done.stdout for option in options)


@pytest.mark.parametrize("name", OURS)
def test_every_variable_of_ours_is_one_the_settings_read(name: str) -> None:
    for variable in SERVICES[name]["environment"].keys() - NOT_OURS:
        assert f'"{variable}"' in SOURCE, variable


def test_every_health_check_of_ours_asks_for_something_that_exists() -> None:
    for name, service in OURS.items():
        if name == "migrate":
            continue
        command, what = service["healthcheck"]["test"][1:4], service["healthcheck"]["test"][4]
        assert command == ["python", "manage.py", "alive"]
        assert what.startswith("http://") or what in Worker.Kind.values


def test_example_and_compose_name_the_same_variables() -> None:
    named = set(re.findall(r"^(\w+)=", EXAMPLE, re.MULTILINE))
    assert named == variables((ROOT / "docker-compose.yml").read_text())


def test_what_must_be_secret_has_no_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for secret in ("SECRET_KEY", "POSTGRES_PASSWORD", "FLOWER_PASSWORD", "GRAFANA_PASSWORD"):
        assert re.search(rf"\${{{secret}:\?", text) and f"${{{secret}:-" not in text
        assert re.search(rf"^{secret}=$", EXAMPLE, re.MULTILINE)


def test_every_queue_has_a_worker_and_solo_only_one_process(settings: Any) -> None:
    workers = [words(name) for name in OURS if name.startswith("worker_")]
    served = {queue: command for command in workers for queue in command[command.index("-Q") + 1].split(",")}
    assert served.keys() == set(settings.JOB_QUEUES)
    assert served["solo"][served["solo"].index("-c") + 1] == "1"


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_limited_restarted_and_not_root(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
    assert name == "migrate" or service["healthcheck"]["test"]
    if name != "postgres":
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["user"] not in ("0", "root")


def test_nothing_is_reachable_from_other_hosts() -> None:
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_redis_keeps_what_it_has_and_evicts_nothing() -> None:
    command = words("redis")
    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"


@pytest.mark.parametrize("command", [json.loads(re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)[0]), words("web")])
def test_a_web_process_has_longer_to_stop_than_it_gives_its_clients(command: list[str]) -> None:
    assert command[:2] == ["uvicorn", "config.asgi:application"]
    assert command[command.index("--timeout-graceful-shutdown") + 1] == "5"
    assert int(SERVICES["web"]["stop_grace_period"].removesuffix("s")) > 5


def test_a_worker_has_longer_to_stop_than_its_stops_take() -> None:
    for name in OURS:
        if name.startswith("worker_"):
            assert SERVICES[name]["stop_grace_period"] == "90s"


def test_mounted_files_exist() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] if not source.startswith(".") else (ROOT / source).is_dir()


def test_the_image_installs_the_hashed_locks_and_runs_without_root() -> None:
    assert "--require-hashes --only-binary :all: -r /build/requirements.txt" in DOCKERFILE
    assert "--require-hashes --only-binary :all: --target /flower -r /build/requirements-flower.txt" in DOCKERFILE
    assert re.search(r"^USER switchyard$", DOCKERFILE, re.MULTILINE)
    for source in re.findall(r"^COPY (?!--from)(\S+)", DOCKERFILE, re.MULTILINE):
        assert (ROOT / source).exists()


def test_only_flowers_image_has_flower_and_the_one_built_without_a_target_is_the_apps() -> None:
    names = [name for _, name in STAGES]
    assert names == ["build", "app", "flower", ""] and [base for base, _ in STAGES[2:]] == ["app", "app"]
    app, flower, last = re.split(r"^FROM .*$", DOCKERFILE, flags=re.MULTILINE)[2:]
    assert "flower" not in app and last.strip() == ""
    assert "COPY --from=build /flower /flower\nENV PYTHONPATH=/flower\n" in flower


def test_flower_and_the_workers_are_pinned_to_the_same_versions() -> None:
    """Flower's process sees both locks, and its own first."""
    flower, everything = (
        dict(re.findall(r"^([\w.-]+)\S*==(\S+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements-flower.txt", "requirements.txt")
    )
    assert flower.keys() - everything.keys() == {"flower", "humanize", "pytz", "tornado"}
    assert {name: everything[name] for name in flower.keys() & everything.keys()}.items() <= flower.items()


def test_the_script_that_follows_the_dockerfile_knows_what_is_in_it() -> None:
    """It needs root and minutes, so it is run by hand: `python -m tests.operations.shows.image`."""
    found = list(instructions(DOCKERFILE))
    assert {word for word, _ in found} == {"FROM", "COPY", "RUN", "WORKDIR", "ENV", "USER", "EXPOSE", "CMD"}
    bases = {base for base, _ in STAGES} - {name for _, name in STAGES}
    assert all(re.search(rf"^python:({'|'.join(RELEASES)})-", base) for base in bases)
    leave_out = without(ROOT, (ROOT / ".dockerignore").read_text().split())
    assert leave_out(str(ROOT), ["tests", ".env", "jobs", "__pycache__"]) == {"tests", ".env", "__pycache__"}
    assert leave_out(str(ROOT / "jobs"), ["tests", "__pycache__"]) == {"__pycache__"}


def test_the_image_holds_no_secrets_and_no_tests() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".env", ".git", ".data", "tests"} <= set(ignored)


def may_mount() -> bool:
    if os.getuid() or not shutil.which("unshare"):
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


def bare_root(place: Path) -> Image:
    """A root with nothing in it but what every Linux has, and this machine's programs and Python to read."""
    for name in ("bin", "lib", "lib64", "sbin"):
        (place / name).symlink_to(Path("/", name).readlink())
    python = {path for path in (sys.prefix, sys.base_prefix) if not path.startswith("/usr/")}
    borrowed = ("/dev", "/usr", *python)
    for path in (*borrowed, "/proc", "/tmp", "/etc"):
        (place / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
    (place / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (place / "etc/group").write_text("root:x:0:\n")
    return Image(place, borrowed=borrowed)


@pytest.mark.skipif(not may_mount(), reason="Only root may make a root file system.")
def test_the_steps_of_the_image_in_a_bare_root_and_its_answers_as_its_user() -> None:
    """All but the base image and the installation of the locks, for which this environment stands in."""
    with TemporaryDirectory() as directory:
        place = Path(directory)
        place.chmod(0o755)
        (place / "build").mkdir()
        (place / "build" / "venv").symlink_to(sys.prefix)
        (place / "build" / "flower").symlink_to(FLOWER)
        (place / "root").mkdir()
        stages = {"build": Image(place / "build")}
        from_app = DOCKERFILE[re.search(r"^FROM .* AS app$", DOCKERFILE, re.MULTILINE).start() :]  # type: ignore[union-attr]
        image = build(from_app, lambda _: bare_root(place / "root"), stages)
        assert answers_as_the_container_would(image)
        for name, code in {"app": 2, "flower": 0}.items():
            asked = stages[name].inside([*stages["flower"].command, "--help"], user=image.user, DEBUG="1")
            assert subprocess.run(asked, capture_output=True, check=False).returncode == code
