#!/usr/bin/env python3
"""The front door: makes .venv, installs the locked requirements, and hands over to the command asked for."""
# Written for old interpreters too: they must get far enough to find a newer one.

import hashlib
import importlib.util
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterable
from fcntl import LOCK_EX, LOCK_NB, flock
from html.parser import HTMLParser
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote, urldefrag, urljoin, urlsplit
from urllib.request import Request, urlopen

OLDEST = (3, 11)
HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
PYTHON = VENV / "bin" / "python"
SIMPLE_API = "application/vnd.pypi.simple.v1+json, text/html;q=0.2, */*;q=0.1"
RUNTIME, DEVELOPMENT, FLOWER = "requirements.txt", "requirements-dev.txt", "requirements-flower.txt"
# Apart from what every process sees: the celery command loads Flower, in workers too, wherever it is installed.
APART = VENV / "flower"

COMMANDS = {
    "up": ("local.up", [RUNTIME], "run everything on this machine (--once: run the sample and stop)"),
    "test": ("local.testing", [RUNTIME, DEVELOPMENT, FLOWER], "run the test suite (pytest's arguments)"),
    "manage": ("local.managing", [RUNTIME], "run manage.py beside a running `up`, or on its own"),
    "bench": ("benchmarks", [RUNTIME, DEVELOPMENT], "run the benchmarks"),
    "chaos": ("tests.chaos", [RUNTIME, DEVELOPMENT], "run the fault tests"),
}
USAGE = "usage: python3 dev.py COMMAND [options]\n\n" + "\n".join(
    f"  {name:8}{help_text}" for name, (_, _, help_text) in COMMANDS.items()
)


def main(arguments: list) -> int:
    if not arguments or arguments[0] not in COMMANDS:
        asked_for_help = arguments[:1] in (["-h"], ["--help"])
        print(USAGE, file=sys.stdout if asked_for_help else sys.stderr)
        return 0 if asked_for_help else 2
    module, locks, _ = COMMANDS[arguments[0]]
    use_new_enough_python()
    name_a_home()
    prepare([*locks, FLOWER] if asks_for_flower(arguments) else locks)
    return hand_over(arguments[0], module, arguments[1:])


def asks_for_flower(arguments: list) -> bool:
    """Also by a beginning of --flower: argparse takes one that no other option has."""
    return arguments[0] == "up" and any(argument.startswith("--f") for argument in arguments)


def use_new_enough_python() -> None:
    if sys.version_info >= OLDEST:
        return
    for name in ("python3.13", "python3.12", "python3.11"):
        found = shutil.which(name)
        # A version manager's shim may be on PATH for a version that is not there.
        if found and subprocess.call([found, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            os.execv(found, [found, str(HERE / "dev.py"), *sys.argv[1:]])
    sys.exit(
        "Switchyard needs Python 3.11 or newer; this is {}.{}, and no python3.11, python3.12 or python3.13 "
        "is on PATH. Install one (your system's package, or `uv python install 3.13`) "
        "and run it with dev.py.".format(*sys.version_info)
    )


def name_a_home() -> None:
    """Without HOME, pip and others would write to / or to a directory named ~."""
    if not os.environ.get("HOME"):
        homes = [entry.pw_dir for entry in pwd.getpwall() if entry.pw_uid == os.getuid()]
        os.environ["HOME"] = next(filter(os.path.isdir, homes), str(VENV))


def prepare(locks: list) -> None:
    if is_usable() and all(is_installed(lock) for lock in locks):
        return
    with (HERE / ".venv.lock").open("w") as place:
        try:
            flock(place, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            print("Another dev.py is installing; waiting for it ...", file=sys.stderr)
            flock(place, LOCK_EX)
        # pip leaves in an environment what a lock has dropped.
        if not is_usable() or (stamp_of(RUNTIME).exists() and not is_installed(RUNTIME)):
            make_venv()
        for lock in locks:
            if not is_installed(lock):
                install(lock)


def is_usable() -> bool:
    """A venv is bound to the Python that made it and to its path: a copied or moved one is not ours."""
    try:
        lines = (VENV / "pyvenv.cfg").read_text().splitlines()
    except FileNotFoundError:
        return False
    made = dict(re.split(r"\s*=\s*", line, maxsplit=1) for line in lines if "=" in line)
    # uv writes the version under another name, and no command.
    version = made.get("version") or made.get("version_info", "")
    same_python = version.split(".")[:2] == [str(number) for number in sys.version_info[:2]]
    same_place = "command" not in made or made["command"].endswith(f" {VENV.resolve()}")
    return same_python and same_place and PYTHON.exists()


def stamp_of(lock: str) -> Path:
    return VENV / f".installed-{lock}"


def is_installed(lock: str) -> bool:
    stamp = stamp_of(lock)
    return stamp.exists() and stamp.read_text() == digest_of(lock)


def digest_of(lock: str) -> str:
    return hashlib.sha256((HERE / lock).read_bytes()).hexdigest()


def make_venv() -> None:
    print(f"Making {VENV} ...", file=sys.stderr)
    if VENV.is_symlink():
        VENV.unlink()
    shutil.rmtree(str(VENV), ignore_errors=True)
    # Inside a venv, sys.executable is the venv's own link, which may be the one just removed.
    base = getattr(sys, "_base_executable", sys.executable)
    # Debian ships ensurepip apart, in python3-venv.
    bundled_pip = importlib.util.find_spec("ensurepip") is not None
    for option in [[], ["--without-pip"]] if bundled_pip else [["--without-pip"]]:
        made = subprocess.run([base, "-m", "venv", *option, str(VENV)], capture_output=True, text=True, check=False)
        if made.returncode == 0:
            return
        shutil.rmtree(str(VENV), ignore_errors=True)
    sys.exit(f"{VENV} could not be made:\n{last_lines(made.stdout + made.stderr)}")


def install(lock: str) -> None:
    print(f"Installing {lock} ...", file=sys.stderr)
    started = time.monotonic()
    options = ["--require-hashes", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check"]
    if lock == FLOWER:
        # Emptied first: pip leaves in a target what an older lock put there.
        stamp_of(lock).unlink(missing_ok=True)
        shutil.rmtree(str(APART), ignore_errors=True)
        options += ["--target", str(APART)]
    with tempfile.TemporaryDirectory() as scratch:
        command = [*pip(Path(scratch)), "install", *options, "-r", str(HERE / lock)]
        run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PIP_USER": "0"}, check=False)
    if run.returncode != 0:
        sys.exit(f"pip could not install {lock}. Its last lines:\n{last_lines(run.stdout + run.stderr)}")
    stamp_of(lock).write_text(digest_of(lock))
    print(f"Installed in {time.monotonic() - started:.0f} s.", file=sys.stderr)


def last_lines(output: str) -> str:
    return "\n".join(output.rstrip().splitlines()[-15:])


def pip(scratch: Path) -> list:
    """The command that runs pip in the venv: its own, or else a wheel run as a program."""
    own = [str(PYTHON), "-m", "pip"]
    if subprocess.run([*own, "--version"], capture_output=True, check=False).returncode == 0:
        return own
    return [str(PYTHON), str(download_pip(scratch) / "pip")]


def download_pip(directory: Path) -> Path:
    index = os.environ.get("PIP_INDEX_URL") or "https://pypi.org/simple"
    page_url, content_type, page = fetch(index.rstrip("/") + "/pip/")
    links = links_of_json(page) if content_type.endswith("+json") else links_of_html(page)
    url, sha256 = newest_wheel((urljoin(page_url, link), sha256) for link, sha256 in links)
    _, _, wheel = fetch(url)
    if hashlib.sha256(wheel).hexdigest() != sha256:
        sys.exit(f"{url} does not have the SHA-256 that {page_url} promises.")
    path = directory / url.rpartition("/")[2]
    path.write_bytes(wheel)
    return path


def fetch(url: str) -> tuple:
    """Return the final URL, the content type and the body; credentials in the URL become a header."""
    parts = urlsplit(url)
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    request = Request(address, headers={"Accept": SIMPLE_API})
    if parts.username:
        login = "{}:{}".format(unquote(parts.username), unquote(parts.password or ""))
        request.add_unredirected_header("Authorization", "Basic " + b64encode(login.encode()).decode())
    try:
        with urlopen(request, timeout=60) as answer:
            # A relative link on the page needs the login of the index again.
            final = url if answer.url == address else answer.url
            return final, answer.headers.get_content_type(), answer.read()
    except OSError as error:
        sys.exit(f"{address} could not be fetched ({error}). Set PIP_INDEX_URL to an index that can.")


def links_of_json(page: bytes) -> list:
    files = json.loads(page)["files"]
    return [(file["url"], file["hashes"].get("sha256", "")) for file in files if not file.get("yanked")]


def links_of_html(page: bytes) -> list:
    links = []

    class Anchors(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list) -> None:
            attributes = dict(attrs)
            if tag == "a" and attributes.get("href") and "data-yanked" not in attributes:
                link, fragment = urldefrag(attributes["href"])
                links.append((link, fragment.partition("sha256=")[2]))

    Anchors().feed(page.decode())
    return links


def newest_wheel(links: Iterable) -> tuple:
    final_release = re.compile(r"/pip-(\d+(?:\.\d+)*)-py3-none-any\.whl$")
    wheels = [
        (match.group(1), link, sha256) for link, sha256 in links for match in [final_release.search(link)] if match
    ]
    if not wheels:
        sys.exit("The package index lists no wheel of pip.")
    _, link, sha256 = max(wheels, key=lambda wheel: [int(part) for part in wheel[0].split(".")])
    return link, sha256


def hand_over(command: str, module: str, arguments: list) -> NoReturn:
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), path] if path else [str(HERE)])
    # File names given to `manage` are relative to where the user stands.
    if command != "manage":
        os.chdir(str(HERE))
    sys.stdout.flush()
    os.execv(str(PYTHON), [str(PYTHON), "-m", module, *arguments])


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
