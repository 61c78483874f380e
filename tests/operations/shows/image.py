"""`python -m tests.operations.shows.image [DEBIAN]`: the steps of the Dockerfile in a bare Debian, without Docker.

Needs root, `debootstrap` and the package index; takes minutes. The base image is a minimal Debian with the same Python:
DEBIAN is a directory that has one, or is made into one for the next time.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path

import httpx

from local.place import CHECKOUT as ROOT
from local.readiness import free_port

MIRROR = "http://deb.debian.org/debian"
# The release of Debian that has this Python.
RELEASES = {"3.11": "bookworm", "3.13": "trixie"}
PACKAGES = "python3,python3-venv,ca-certificates"
# What leads to the network from here, leads there from inside.
FROM_HERE = ("/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
READ_ONLY = 'mount --bind "$0" "$0" && mount -t tmpfs none "$0/tmp" && mount -o remount,bind,ro "$0"'
# What lies below /tmp is hidden by then.
BORROWED = 'mkdir -p "$0"{0} && mount --bind {0} "$0"{0} && mount -o remount,bind,ro "$0"{0}'
# To connect, each after twice the time of the one before: half a minute.
TRIES = 7
BEGAN = time.monotonic()


@dataclass
class Image:
    """One stage of a Dockerfile while it is built."""

    root: Path
    workdir: str = "/"
    user: str = "root"
    environment: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    # Directories of this machine that are there too.
    borrowed: tuple[str, ...] = ()

    def inside(self, command: list[str], *, user: str = "root", **more: str) -> list[str]:
        """The command line that runs a command in the image, with /proc, in a mount namespace of its own."""
        values = {"PATH": PATH, "HOME": "/root"} | self.environment | more
        pairs = [f"{name}={value}" for name, value in values.items()]
        # To read only: what a step as root does to the image must not be done to this machine.
        borrow = [BORROWED.format(shlex.quote(path)) for path in self.borrowed]
        mounts = [*([READ_ONLY] if user != "root" else []), *borrow, 'mount -t proc proc "$0/proc"']
        script = f'{" && ".join(mounts)} && cd / && exec "$@"'
        enter = f"cd {shlex.quote(self.workdir)} && exec {shlex.join(['env', '-i', *pairs, *command])}"
        chroot = ["chroot", f"--userspec={user}", str(self.root), "/bin/sh", "-c", enter]
        return ["unshare", "--mount", "sh", "-c", script, str(self.root), *chroot]

    def run(self, command: str) -> None:
        taken = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        subprocess.run(self.inside(["sh", "-c", command], **taken), check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    if os.getuid() or not shutil.which("debootstrap"):
        sys.exit("This needs root and Debian's package debootstrap.")
    place = Path(tempfile.mkdtemp(prefix="switchyard-image-"))
    place.chmod(0o755)
    try:
        debian = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else place / "debian"
        image = build((ROOT / "Dockerfile").read_text(), lambda base: started_from(base, debian, place), {})
        say(f"built; {image.user} runs {shlex.join(image.command)} on a read-only root")
        sys.exit(0 if answers_as_the_container_would(image) else 1)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def build(dockerfile: str, start: Callable[[str], Image], stages: dict[str, Image]) -> Image:
    """Follow the instructions; the last stage is the image. What `stages` holds is there already; the rest joins it."""
    image = Image(ROOT)
    for word, rest in instructions(dockerfile):
        say(f"{word} {rest[:100]}")
        match word:
            case "FROM":
                base, _, name = rest.partition(" AS ")
                image = stages[name or "last"] = on_top_of(stages[base]) if base in stages else start(base)
            case "COPY":
                copy(rest, image, stages)
            case "RUN":
                image.run(f"cd {image.workdir} && {rest}")
            case "WORKDIR":
                image.workdir = rest
            case "USER":
                image.user = rest
            case "ENV":
                for pair in shlex.split(rest):
                    name, _, value = pair.partition("=")
                    image.environment[name] = value.replace("$PATH", PATH)
            case "CMD":
                image.command = json.loads(rest)
            case _ if word != "EXPOSE":
                raise ValueError(f"This script does not know the instruction {word}.")
    return image


def instructions(dockerfile: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in dockerfile.splitlines() if not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            yield word, rest.strip()


def started_from(base: str, debian: Path, place: Path) -> Image:
    """A copy of a minimal Debian with the Python that the base image has."""
    stage = Path(tempfile.mkdtemp(dir=place))
    [version] = re.findall(r"^python:(\d+\.\d+)", base)
    if not debian.exists():
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", RELEASES[version], str(debian), MIRROR]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cp", "-a", "--reflink=auto", f"{debian}/.", str(stage)], check=True)
    (stage / "usr/bin/python").symlink_to(f"python{version}")
    for path in FROM_HERE:
        if Path(path).exists():
            shutil.copy(path, stage / path.lstrip("/"))
    return Image(stage)


def on_top_of(stage: Image) -> Image:
    root = tempfile.mkdtemp(dir=stage.root.parent)
    subprocess.run(["cp", "-a", "--reflink=auto", f"{stage.root}/.", root], check=True)
    return replace(stage, root=Path(root), environment=dict(stage.environment))


def copy(rest: str, image: Image, stages: dict[str, Image]) -> None:
    *options, source, target = rest.split()
    here, ignored = ROOT, (ROOT / ".dockerignore").read_text().split()
    for option in options:
        here, ignored = stages[option.removeprefix("--from=")].root, []
    found, to = here / source.lstrip("/"), image.root / target.lstrip("/")
    if found.is_symlink():
        to.symlink_to(found.readlink())
    elif found.is_dir():
        leave_out = without(found, ignored)
        shutil.copytree(found, to, symlinks=True, ignore=leave_out, dirs_exist_ok=True)
    else:
        to.mkdir(parents=True, exist_ok=True)
        shutil.copy(found, to)


def without(top: Path, ignored: list[str]):  # type: ignore[no-untyped-def]
    """As .dockerignore says it: patterns from the top, or at any depth after **/."""

    def leave_out(directory: str, names: list[str]) -> set[str]:
        patterns = [each.removeprefix("**/") for each in ignored if Path(directory) == top or each.startswith("**/")]
        return {name for name in names if any(fnmatch(name, pattern) for pattern in patterns)}

    return leave_out


def answers_as_the_container_would(image: Image) -> bool:
    """Does its command serve, as its user, on a root that cannot be written?"""
    port = str(free_port())
    command = [port if word == "8000" else word for word in image.command]
    user = image.user
    paths, patient = ("/healthz", "/static/admin/css/base.css"), httpx.HTTPTransport(retries=TRIES)
    serving = running(image.inside(command, user=user, SECRET_KEY="only-for-this-show", DEBUG="0"))
    with serving, httpx.Client(base_url=f"http://127.0.0.1:{port}", transport=patient) as client:
        served = [client.get(path).status_code for path in paths]
    who = done(image.inside(["id", "-u"], user=user)).stdout.strip()
    written = done(image.inside(["touch", "/app/x"], user=user)).returncode == 0
    say(f"{', '.join(paths)}: {served}; uid {who}; the root {'can' if written else 'cannot'} be written")
    return (served, who, written) == ([200, 200], "10001", False)


def done(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


@contextmanager
def running(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def say(text: str) -> None:
    print(f"{time.monotonic() - BEGAN:6.1f} s  {text}", flush=True)


if __name__ == "__main__":
    main()
