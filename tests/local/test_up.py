import json
import os
import socket
import stat
import subprocess
import sys

import pytest

from local.place import CHECKOUT, hold, write_private
from local.roster import FLOWER, roster
from local.sample import PEOPLE, write_sample
from local.stack import project_environment
from local.up import parse, sandbox_ports

TASKS = {
    *("send_email", "process_payment", "generate_report", "data_pipeline", "process_data", "deliver_webhook"),
    *("always_fails", "flaky", "crash", "slow"),
}


def run(module, *arguments, state, **environment):
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=CHECKOUT,
        env={**os.environ, "SWITCHYARD_DATA": str(state), **environment},
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )


def test_a_second_up_says_which_process_holds_the_place(place):
    with hold(place / "lock"):
        second = run("local.up", state=place)
    assert second.returncode == 1
    assert f"in use by process {os.getpid()}" in second.stderr
    assert "Traceback" not in second.stderr


def test_the_place_is_free_again_after_its_holder_died(place, spawn):
    script = "import sys, signal; from local.place import hold; from pathlib import Path\n"
    holder = spawn(
        "-c",
        script + "f = hold(Path(sys.argv[1])); print(1, flush=True); signal.pause()",
        str(place / "lock"),
    )
    holder.stdout.readline()
    holder.kill()
    holder.wait()
    hold(place / "lock").close()


@pytest.mark.parametrize("option", ["--port", "--flower"])
def test_a_taken_port_is_named_with_its_option_before_anything_starts(place, option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = run("local.up", option, str(port), state=place)
    assert refused.returncode == 1
    assert f"Port {port} is taken" in refused.stderr
    assert f"{option} N" in refused.stderr
    assert not (place / "postgres").exists()


def test_once_without_a_sample_is_refused(capsys):
    with pytest.raises(SystemExit):
        parse(["--once", "--no-sample"])
    assert "--once waits for the sample" in capsys.readouterr().err


def test_without_options_it_is_four_two_two_on_port_8000_with_a_sample():
    options = vars(parse([]))
    assert options == {
        **{"high": 4, "default": 2, "low": 2, "port": 8000, "once": False, "no_sample": False},
        **{"flower": None, "metrics": None, "json": False},
    }


@pytest.mark.parametrize(
    ("option", "value"),
    [*((f"--{name}", value) for name in ("port", "flower", "metrics") for value in ("0", "65536", "-5", "x"))]
    + [(f"--{name}", value) for name in ("high", "default", "low") for value in ("0", "-1", "2.5")],
)
def test_a_number_out_of_bounds_is_refused_by_option(capsys, option, value):
    with pytest.raises(SystemExit) as refused:
        parse([f"{option}={value}"])
    assert refused.value.code == 2
    assert f"argument {option}: '{value}' is not a whole number from 1 to" in capsys.readouterr().err


def test_a_missing_program_is_a_message_that_names_the_setting(place, port):
    failed = run("local.up", "--port", str(port), state=place, DATABASE_URL="", SWITCHYARD_POSTGRES_BIN="/nonexistent")
    assert failed.returncode == 1
    assert "SWITCHYARD_POSTGRES_BIN names /nonexistent" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_the_sample_has_every_task_and_files_that_exist(place):
    jobs = [json.loads(line) for line in write_sample(place, gateway_port=8181).read_text().splitlines()]
    assert {job["task"] for job in jobs} == TASKS
    assert len({job["idempotency_key"] for job in jobs}) == len(jobs)
    sources = {job["payload"]["source"] for job in jobs if job["task"] == "data_pipeline"}
    assert (place / "sandbox" / "people.csv").as_uri() in sources
    assert len((place / "sandbox" / "people.csv").read_text().splitlines()) == PEOPLE + 1
    assert {job["payload"]["url"] for job in jobs if job["task"] == "deliver_webhook"} == {
        "http://127.0.0.1:8181/webhooks"
    }


def test_the_sandbox_keeps_its_ports_while_they_are_free(place):
    first = sandbox_ports(place)
    assert sandbox_ports(place) == first
    with socket.create_server(("127.0.0.1", first["gateway"])):
        moved = sandbox_ports(place)
    assert moved["mailbox"] == first["mailbox"]
    assert moved["gateway"] != first["gateway"]


def test_every_queue_has_a_worker_of_the_asked_size(place):
    options = parse(["--high", "7", "--flower"])
    services = roster(options, {}, state=place, mailbox=1, gateway=2, flower_login="a:b")
    pools = {
        service.command[service.command.index("-Q") + 1]: service.command[service.command.index("-c") + 1]
        for service in services
        if "-Q" in service.command
    }
    assert pools == {"high": "7", "default": "2", "low": "2", "solo": "1", "system": "1"}
    assert "--port=5555" in services[-1].command


def test_only_flowers_process_looks_where_flower_is(place, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/the/users")
    services = roster(parse(["--flower"]), {}, state=place, mailbox=1, gateway=2, flower_login="a:b")
    paths = {service.name: service.environment.get("PYTHONPATH") for service in services}
    assert paths.pop("flower") == f"{FLOWER}{os.pathsep}/the/users"
    assert set(paths.values()) == {None}


def test_the_users_own_settings_stand(place, monkeypatch):
    monkeypatch.setenv("DEBUG", "0")
    environment = project_environment(place, port=8000, mailbox=1, gateway=2)
    assert environment["DEBUG"] == "0"
    assert environment["WEBHOOK_ALLOWED_HOSTS"] == "127.0.0.1:2"


def test_the_secret_key_is_private_and_stays(place):
    first = project_environment(place, port=8000, mailbox=1, gateway=2)["SECRET_KEY"]
    assert project_environment(place, port=8000, mailbox=1, gateway=2)["SECRET_KEY"] == first
    assert stat.S_IMODE((place / "secret_key").stat().st_mode) == 0o600


def test_manage_without_a_ready_up_says_who_is_busy(place):
    with hold(place / "lock"):
        busy = run("local.managing", "check", state=place)
    assert busy.returncode == 1
    assert f"Process {os.getpid()} is starting or using the servers" in busy.stderr


def test_manage_speaks_to_the_servers_of_the_running_up(place):
    write_private(place / "environment.json", json.dumps({"SITE_URL": "http://the.running.up"}))
    with hold(place / "lock"):
        shown = run("local.managing", "diffsettings", state=place)
    assert "the.running.up" in shown.stdout, shown.stderr


def test_manage_alone_brings_its_own_servers(place):
    own = dict.fromkeys(("DATABASE_URL", "REDIS_URL"), "")
    done = run("local.managing", "inspectdb", "nothing", state=place, **own)
    assert done.returncode == 0, done.stderr
    assert not (place / "postgres" / "data" / "postmaster.pid").exists()
