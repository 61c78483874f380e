"""dev.py in a checkout of its own: a tiny lock, a tiny package, an index on this machine, and no pip in the venv."""

import functools
import hashlib
import http.server
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

import pip
import pytest

from local import roster
from local.place import CHECKOUT

UP = "import sys, tiny; print('up with', tiny.VERSION, sys.argv[1:])"
FLOWER = "requirements-flower.txt"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """A package index with one page: pip's, as the Simple API's HTML with a relative link."""
    root = tmp_path_factory.mktemp("index")
    wheel = root / "files" / f"pip-{pip.__version__}-py3-none-any.whl"
    wheel.parent.mkdir()
    package = Path(pip.__file__).parent
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in package.rglob("*"):
            if "__pycache__" not in file.parts:
                archive.write(file, file.relative_to(package.parent))
    page = root / "simple" / "pip" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f'<a href="../../files/{wheel.name}#sha256={digest(wheel.read_bytes())}">pip</a>')
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=root)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/simple"
        server.shutdown()


@pytest.fixture
def checkout(tmp_path):
    """A checkout with a venv that has no pip, as Debian makes it without python3-venv."""
    directory = tmp_path / "checkout"
    (directory / "local").mkdir(parents=True)
    shutil.copy(CHECKOUT / "dev.py", directory)
    (directory / "local" / "up.py").write_text(UP)
    lock(directory, tiny_wheel(tmp_path, "1.0"))
    venv = [sys.executable, "-m", "venv", "--without-pip", directory / ".venv"]
    subprocess.run(venv, check=True)
    return directory


@pytest.fixture
def dev(checkout, index):
    def run(*arguments, **environment):
        return subprocess.Popen(
            [sys.executable, checkout / "dev.py", *arguments],
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
                "PIP_INDEX_URL": index,
                "PIP_NO_INDEX": "1",
                "PIP_FIND_LINKS": str(checkout.parent),
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return run


def digest(content):
    return hashlib.sha256(content).hexdigest()


def tiny_wheel(directory, version):
    wheel = directory / f"tiny-{version}-py3-none-any.whl"
    info = f"tiny-{version}.dist-info"
    files = {
        "tiny.py": f"VERSION = '{version}'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [
        f"{name},sha256={urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip('=')},{len(text)}"
        for name, text in files.items()
    ]
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,"]))
    return wheel


def lock(checkout, wheel, name="requirements.txt"):
    version = wheel.name.split("-")[1]
    (checkout / name).write_text(f"tiny=={version} --hash=sha256:{digest(wheel.read_bytes())}\n")


def output(process):
    return process.communicate(timeout=60)[0]


def load(checkout):
    spec = importlib.util.spec_from_file_location("dev", checkout / "dev.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_first_run_fetches_pip_installs_the_lock_and_hands_over(dev):
    said = output(dev("up", "--high", "7"))
    assert "Installing requirements.txt" in said
    assert "up with 1.0 ['--high', '7']" in said


def test_an_unchanged_lock_is_not_installed_again_and_a_changed_one_is(dev, checkout, tmp_path):
    output(dev("up"))
    assert "Installing" not in output(dev("up"))
    dropped = checkout / ".venv" / "dropped-by-the-lock"
    dropped.touch()
    lock(checkout, tiny_wheel(tmp_path, "2.0"))
    said = output(dev("up"))
    assert "Installing requirements.txt" in said
    assert "up with 2.0" in said
    assert not dropped.exists()


def test_flower_is_installed_apart_when_up_is_asked_for_it(dev, checkout, tmp_path):
    lock(checkout, tiny_wheel(tmp_path, "2.0"), FLOWER)
    assert FLOWER not in output(dev("up", "--high", "7"))
    said = output(dev("up", "--flower=5599"))
    assert f"Installing {FLOWER}" in said
    assert "up with 1.0 ['--flower=5599']" in said
    assert "2.0" in (checkout / ".venv" / "flower" / "tiny.py").read_text()
    assert "Installing" not in output(dev("up", "--flower=5599"))


def test_a_changed_lock_of_flower_leaves_nothing_of_the_old_one_even_if_it_fails(dev, checkout, tmp_path):
    lock(checkout, tiny_wheel(tmp_path, "2.0"), FLOWER)
    output(dev("up", "--flower"))
    old = (checkout / FLOWER).read_text()
    (checkout / FLOWER).write_text(f"tiny==2.0 --hash=sha256:{'0' * 64}\n")
    assert f"pip could not install {FLOWER}" in output(dev("up", "--flower"))
    assert not load(checkout).is_installed(FLOWER)
    (checkout / FLOWER).write_text(old)
    assert not load(checkout).is_installed(FLOWER)
    lock(checkout, tiny_wheel(tmp_path, "3.0"), FLOWER)
    output(dev("up", "--flower"))
    assert [path.name for path in (checkout / ".venv" / "flower").glob("*.dist-info")] == ["tiny-3.0.dist-info"]


def test_flower_is_only_for_an_up_that_asks_for_it_and_for_the_tests():
    dev = load(CHECKOUT)
    asking = (["up", "--flower"], ["up", "--json", "--flower=5599"], ["up", "--flow", "5599"])
    others = (["up"], ["up", "--high", "7"], ["manage", "dlq", "--filter", "x"], ["test", "--ff"])
    assert [dev.asks_for_flower(each) for each in (*asking, *others)] == [True] * 3 + [False] * 4
    assert [name for name, (_, locks, _) in dev.COMMANDS.items() if dev.FLOWER in locks] == ["test"]
    assert dev.APART == roster.FLOWER


def test_two_first_runs_install_once(dev):
    both = [dev("up"), dev("up")]
    said = [output(process) for process in both]
    assert "".join(said).count("Installed in") == 1
    assert all("up with 1.0" in text for text in said)


def test_a_failed_install_shows_pips_last_lines_and_is_tried_again(dev, checkout):
    (checkout / "requirements.txt").write_text(f"tiny==1.0 --hash=sha256:{'0' * 64}\n")
    for _ in range(2):
        process = dev("up")
        said = output(process)
        assert process.returncode == 1
        assert "pip could not install requirements.txt" in said
        assert "HASHES" in said
        assert "up with" not in said


def test_an_index_out_of_reach_is_a_message_that_names_the_setting(dev, port):
    process = dev("up", PIP_INDEX_URL=f"http://127.0.0.1:{port}/simple")
    said = output(process)
    assert process.returncode == 1
    assert "Set PIP_INDEX_URL" in said
    assert "Traceback" not in said


def test_a_run_without_home_works(dev):
    assert "up with 1.0" in output(dev("up", HOME=""))


def test_a_venv_that_was_moved_or_made_by_another_python_is_not_used(checkout):
    assert load(checkout).is_usable()
    config = checkout / ".venv" / "pyvenv.cfg"
    original = config.read_text()
    config.write_text(original.replace(f"version = 3.{sys.version_info.minor}.", "version = 3.9."))
    assert not load(checkout).is_usable()
    config.write_text(original)
    moved = checkout.rename(checkout.with_name("moved"))
    assert not load(moved).is_usable()


def test_an_unusable_venv_is_rebuilt(dev, checkout):
    moved = checkout.with_name("elsewhere")
    (checkout / ".venv").rename(moved)
    shutil.copytree(moved, checkout / ".venv", symlinks=True)
    config = checkout / ".venv" / "pyvenv.cfg"
    config.write_text(config.read_text().replace("/checkout/.venv", "/elsewhere"))
    said = output(dev("up"))
    assert "Making" in said
    assert "up with 1.0" in said


def test_an_unknown_command_lists_the_known_ones(dev):
    process = dev("upp")
    assert "usage: python3 dev.py COMMAND" in output(process)
    assert process.returncode == 2


def test_the_newest_final_wheel_is_chosen():
    links = [
        ("https://x/pip-9.0-py3-none-any.whl", "a"),
        ("https://x/pip-26.3-py3-none-any.whl", "b"),
        ("https://x/pip-27.0b1-py3-none-any.whl", "c"),
        ("https://x/pip-26.3.tar.gz", "d"),
    ]
    assert load(CHECKOUT).newest_wheel(links) == ("https://x/pip-26.3-py3-none-any.whl", "b")


def test_both_forms_of_the_simple_api_are_read_and_yanked_files_are_left_out():
    dev = load(CHECKOUT)
    html = b'<a href="a.whl#sha256=1&amp;x=2">a</a> <a href="b.whl#sha256=2" data-yanked="">b</a><a href="c.whl">c</a>'
    assert dev.links_of_html(html.replace(b"&amp;x=2", b"")) == [("a.whl", "1"), ("c.whl", "")]
    json_page = (
        b'{"files": [{"url": "a.whl", "hashes": {"sha256": "1"}},'
        b' {"url": "b.whl", "hashes": {"sha256": "2"}, "yanked": "broken"}]}'
    )
    assert dev.links_of_json(json_page) == [("a.whl", "1")]


def test_a_wheel_with_another_hash_is_refused(index, tmp_path, monkeypatch):
    dev = load(CHECKOUT)
    monkeypatch.setenv("PIP_INDEX_URL", index)
    monkeypatch.setattr(dev, "links_of_html", lambda page: [(f"/files/pip-{pip.__version__}-py3-none-any.whl", "0")])
    with pytest.raises(SystemExit, match="does not have the SHA-256"):
        dev.download_pip(tmp_path)
