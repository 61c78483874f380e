import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from kombu import Connection

from local import account
from local.binaries import postgres_bin, redis_server
from local.place import CHECKOUT, PlaceTaken
from local.postgres import Postgres
from local.valkey import Valkey

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="is about what root's servers do")


def query(server: Postgres, statement: str) -> list[tuple]:
    with psycopg.connect(server.url, autocommit=True, connect_timeout=5) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def shared_postgres():
    directory = Path(tempfile.mkdtemp(prefix="switchyard-"))
    directory.chmod(0o711)
    with Postgres(directory / "postgres", settings={"fsync": "off"}) as server:
        yield server
    shutil.rmtree(directory)


@pytest.fixture
def postgres(shared_postgres):
    """A running server: started anew after a test that ended it."""
    if not shared_postgres.is_running():
        shared_postgres.start()
    query(shared_postgres, "DROP TABLE IF EXISTS kept")
    return shared_postgres


@pytest.fixture
def valkey(place):
    with Valkey(place / "valkey") as server:
        yield server


def test_postgres_listens_on_its_socket_only_and_sorts_alike_everywhere(postgres):
    assert query(postgres, "SHOW listen_addresses") == [("",)]
    assert query(postgres, "SHOW max_connections") == [("150",)]
    providers = query(postgres, "SELECT DISTINCT datlocprovider, datlocale FROM pg_database")
    assert providers == [("b", "C.UTF-8")]


def test_postgres_asks_for_the_password_in_a_private_file(postgres):
    assert stat.S_IMODE((postgres.home / "password").stat().st_mode) == 0o600
    wrong = postgres.url.replace(postgres.password, "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_a_stopped_postgres_leaves_neither_process_nor_socket(postgres):
    processes = postgres._family()
    postgres.stop()
    assert not any(process.is_running() for process in processes)
    assert not (postgres.data / "postmaster.pid").exists()
    assert list(postgres.sockets.iterdir()) == []


def test_rows_survive_a_killed_postgres(postgres):
    query(postgres, "CREATE TABLE kept AS SELECT 7 AS number")
    processes = postgres._family()
    postgres.kill()
    assert not any(process.is_running() for process in processes)
    postgres.start()
    assert query(postgres, "SELECT number FROM kept") == [(7,)]


def test_postgres_starts_again_after_a_kill_by_somebody_else(postgres):
    query(postgres, "CREATE TABLE kept AS SELECT 7 AS number")
    with psycopg.connect(postgres.url):
        os.kill(postgres.pid, signal.SIGKILL)
        postgres.process.wait()
        assert postgres.has_ended()
        postgres.start()
    assert query(postgres, "SELECT number FROM kept") == [(7,)]


def test_postgres_restarts_in_every_mode(postgres):
    query(postgres, "CREATE TABLE kept AS SELECT 7 AS number")
    for mode in ("smart", "immediate", "fast"):
        before = postgres.pid
        postgres.restart(mode)
        assert postgres.pid != before
    assert query(postgres, "SELECT number FROM kept") == [(7,)]


def test_a_paused_postgres_is_silent_until_it_is_resumed(postgres):
    postgres.pause()
    with pytest.raises(psycopg.OperationalError, match="timeout"):
        psycopg.connect(postgres.url, connect_timeout=2)
    postgres.resume()
    assert query(postgres, "SELECT 1") == [(1,)]


def test_postgres_answers_on_a_port_when_asked_to(place, port):
    with Postgres(place / "postgres", port=port) as server:
        assert server.url.endswith(f"@127.0.0.1:{port}/switchyard")
        assert query(server, "SELECT 1") == [(1,)]


def test_a_home_too_deep_for_a_socket_gets_a_short_one(place):
    deep = place / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    postgres, valkey = Postgres(deep / "postgres"), Valkey(deep / "valkey")
    try:
        with postgres, valkey:
            assert query(postgres, "SELECT 1") == [(1,)]
            assert redis.Redis.from_url(valkey.url).ping()
            assert not postgres.sockets.is_relative_to(deep)
    finally:
        postgres.erase()
        valkey.erase()
    assert not postgres.sockets.exists()


def test_a_second_owner_of_a_home_is_told_who_has_it(postgres):
    with pytest.raises(PlaceTaken, match=str(os.getpid())):
        Postgres(postgres.home).start()
    assert query(postgres, "SELECT 1") == [(1,)]


def test_valkey_keeps_its_keys_over_a_kill(valkey):
    client = redis.Redis.from_url(valkey.url)
    client.set("kept", "7")
    # Written every second: wait for the next write to be on disk.
    client.execute_command("WAITAOF", 1, 0, 5000)
    valkey.kill()
    valkey.start()
    assert client.get("kept") == b"7"


def test_valkey_refuses_rather_than_forgets_and_may_keep_nothing(place):
    with Valkey(place / "valkey", persistence=False) as server:
        client = redis.Redis.from_url(server.url)
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        client.set("lost", "7")
        server.restart()
        assert client.get("lost") is None


def test_valkey_is_reached_by_redis_and_by_celery(valkey):
    with Connection(valkey.celery_url) as connection:
        connection.SimpleQueue("greetings").put("hello")
    assert redis.Redis.from_url(valkey.url).llen("greetings") == 1
    assert stat.S_IMODE(valkey.sockets.stat().st_mode) == 0o700


def test_a_paused_valkey_is_silent_until_it_is_resumed(valkey):
    client = redis.Redis.from_url(valkey.url, socket_timeout=0.3, retry=None)
    valkey.pause()
    with pytest.raises(redis.TimeoutError):
        client.ping()
    valkey.resume()
    assert client.ping()


OWNER = """
import signal, sys
from pathlib import Path
from local.postgres import Postgres
from local.valkey import Valkey

place = Path(sys.argv[1])
with Postgres(place / "postgres") as postgres, Valkey(place / "valkey") as valkey:
    pids = [process.pid for server in (postgres, valkey) for process in server._family()]
    if "frozen" in sys.argv:
        postgres.pause()
    print(*pids, flush=True)
    signal.pause()
"""


def test_servers_of_a_killed_owner_stop_cleanly(place, spawn, all_gone):
    owner = spawn("-c", OWNER, str(place))
    pids = [int(pid) for pid in owner.stdout.readline().split()]
    owner.kill()
    all_gone(pids)
    assert "database system is shut down" in (place / "postgres" / "log").read_text()


def test_an_orphan_that_could_not_stop_is_stopped_by_the_next_owner(place, spawn, all_gone):
    owner = spawn("-c", OWNER, str(place), "frozen")
    pids = [int(pid) for pid in owner.stdout.readline().split()]
    owner.kill()
    owner.wait()
    with Postgres(place / "postgres") as server:
        assert query(server, "SELECT 1") == [(1,)]
        all_gone(pids)


NORMAL_USER = """
import os, sys
from pathlib import Path
import psycopg, redis
from local.postgres import Postgres
from local.valkey import Valkey

def use_servers(directory):
    with Postgres(directory / "postgres") as postgres, Valkey(directory / "valkey") as valkey:
        assert psycopg.connect(postgres.url).execute("SELECT 1").fetchone() == (1,)
        assert redis.Redis.from_url(valkey.url).ping()
        return os.stat(f"/proc/{postgres.pid}").st_uid

# As root first: afterwards every module is loaded, wherever the interpreter lives.
assert use_servers(Path(sys.argv[1])) != 0
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
assert use_servers(Path(sys.argv[2])) == 65534
"""


@needs_root
def test_a_normal_user_runs_the_servers_as_itself(place):
    theirs = place / "theirs"
    theirs.mkdir()
    os.chown(theirs, 65534, 65534)
    # Ours may be where only root can read them.
    binaries = account.reachable_binaries(postgres_bin(), account.Account(65534, 65534))
    valkey = shutil.copy(redis_server(), theirs)
    run = subprocess.run(
        [sys.executable, "-c", NORMAL_USER, str(place / "roots"), str(theirs)],
        cwd=CHECKOUT,
        env={
            **os.environ,
            "SWITCHYARD_POSTGRES_BIN": str(binaries),
            "SWITCHYARD_REDIS_SERVER": str(valkey),
        },
        capture_output=True,
        check=False,
        text=True,
    )
    assert run.returncode == 0, run.stderr


@needs_root
def test_roots_private_directories_stay_private(place):
    private = place / "private"
    private.mkdir(mode=0o700)
    server = Postgres(private / "postgres")
    try:
        with server:
            assert query(server, "SELECT 1") == [(1,)]
            assert psutil.Process(server.pid).uids().real != 0
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert server.home.is_relative_to(account.ROOT_STATE)
    finally:
        server.erase()


@needs_root
def test_programs_that_no_account_can_reach_are_copied(place, monkeypatch):
    monkeypatch.setattr(account, "ROOT_STATE", place / "copies")
    hidden = place / "hidden"
    package = postgres_bin().parent.parent
    hidden.mkdir(mode=0o700)
    (hidden / package.name).symlink_to(package)
    (hidden / f"{package.name}.libs").symlink_to(package.parent / f"{package.name}.libs")
    monkeypatch.setenv("SWITCHYARD_POSTGRES_BIN", str(hidden / package.name / postgres_bin().parent.name / "bin"))
    with Postgres(place / "postgres") as server:
        assert server.binaries.is_relative_to(place / "copies")
        assert query(server, "SELECT 1") == [(1,)]
