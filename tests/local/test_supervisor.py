import asyncio
import io
import os
import signal
import sys

import pytest

from local.console import Console
from local.readiness import listens
from local.supervisor import Backoff, Service, ServiceFailed, Supervisor

QUICK = Backoff(first=0.01, longest=0.05, healthy_after=5, loop_at=3)
SLEEPS = "import signal; print('up', flush=True); signal.pause()"
NOTES_ITS_END = """
import pathlib, signal, sys
def end(*_):
    with open(sys.argv[2], "a") as file:
        file.write(sys.argv[1] + "\\n")
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
while True:
    signal.pause()
"""
DEAF = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.signal(15, 1); signal.pause()"])
print("pids", *sys.argv[1:], __import__("os").getpid(), child.pid, flush=True)
while True:
    signal.pause()
"""


def service(name, script, *arguments, stage=0, **options):
    return Service(name, [sys.executable, "-c", script, *arguments], stage, **options)


@pytest.fixture
def out():
    return io.StringIO()


@pytest.fixture
def console(tmp_path, out):
    return Console(tmp_path / "logs", out=out)


def supervise(console, scenario, **options):
    """Run a scenario with a supervisor of its own, which is stopped at the end."""

    async def run():
        supervisor = Supervisor(console, **options)
        try:
            await asyncio.wait_for(scenario(supervisor), 20)
        finally:
            await supervisor.stop()

    asyncio.run(run())


async def until(condition):
    while not condition():
        await asyncio.sleep(0.01)


def test_a_failing_worker_is_restarted_ever_later_and_the_loop_is_named(console, out):
    async def scenario(supervisor):
        await supervisor.start([service("worker", "raise SystemExit(3)")])
        await until(lambda: "crash loop" in out.getvalue())

    supervise(console, scenario, backoff=QUICK)
    notices = [line for line in out.getvalue().splitlines() if "next start" in line]
    assert "worker ended with exit code 3; next start in 0.01 s" in notices[0]
    assert "next start in 0.02 s" in notices[1]
    assert "next start in 0.04 s (crash loop: 3 short lives in a row, see worker.log)" in notices[2]


def test_a_killed_worker_comes_back(console, out):
    async def scenario(supervisor):
        await supervisor.start([service("worker", SLEEPS)])
        await until(lambda: out.getvalue().count("up") == 1)
        first = supervisor.processes["worker"].pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: out.getvalue().count("up") == 2)
        assert supervisor.processes["worker"].pid != first
        assert "worker ended with SIGKILL" in out.getvalue()

    supervise(console, scenario, backoff=QUICK)


def test_the_end_of_a_service_that_must_live_is_a_failure(console):
    async def scenario(supervisor):
        await supervisor.start([service("web", "raise SystemExit(4)", restarts=False)])
        with pytest.raises(ServiceFailed, match="web ended with exit code 4"):
            await supervisor.watch()

    supervise(console, scenario)


def test_a_program_that_does_not_exist_is_a_failure(console):
    async def scenario(supervisor):
        await supervisor.start([Service("worker", ["/nonexistent/program"], 0)])
        with pytest.raises(FileNotFoundError, match="/nonexistent/program"):
            await supervisor.watch()

    supervise(console, scenario)


def test_a_service_that_never_gets_ready_is_a_failure(console, port):
    async def scenario(supervisor):
        unready = service("gateway", SLEEPS, ready=listens(port), ready_within=0.3)
        with pytest.raises(ServiceFailed, match=r"gateway was not ready within 0\.3 s"):
            await supervisor.start([unready])

    supervise(console, scenario)


def test_a_stage_starts_when_the_one_before_is_ready(console, out, port):
    slow = (
        "import socket, sys, time; time.sleep(0.3); s = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "while True: s.accept()"
    )
    eager = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1]))); print('connected')"

    async def scenario(supervisor):
        second = service("second", eager, str(port), stage=1)
        await supervisor.start([second, service("first", slow, str(port), ready=listens(port))])
        await until(lambda: "connected" in out.getvalue())
        assert "refused" not in out.getvalue()

    supervise(console, scenario)


def test_stages_stop_in_the_opposite_order(console, out, tmp_path):
    ends = tmp_path / "ends"

    async def scenario(supervisor):
        names = ("web", "worker", "beat")
        await supervisor.start(
            service(name, NOTES_ITS_END, name, str(ends), stage=stage) for stage, name in enumerate(names)
        )
        await until(lambda: out.getvalue().count("up") == 3)

    supervise(console, scenario)
    assert ends.read_text().split() == ["beat", "worker", "web"]


def test_a_deaf_service_is_killed_with_its_children_when_patience_ends(console, out, all_gone):
    async def scenario(supervisor):
        await supervisor.start([service("worker", DEAF, stop=((signal.SIGTERM, 0.2),))])
        await until(lambda: "pids" in out.getvalue())

    supervise(console, scenario)
    all_gone([int(pid) for pid in out.getvalue().split("pids ")[1].split()[:2]])
    assert "worker is killed" in out.getvalue()


def test_hurry_ends_all_patience(console, out, all_gone):
    async def scenario(supervisor):
        await supervisor.start([service("worker", DEAF, stop=((signal.SIGTERM, 600),))])
        await until(lambda: "pids" in out.getvalue())
        asyncio.get_running_loop().call_later(0.1, supervisor.hurry)
        await supervisor.stop()

    supervise(console, scenario)
    all_gone([int(pid) for pid in out.getvalue().split("pids ")[1].split()[:2]])


def test_what_a_dead_service_left_behind_is_killed(console, out, all_gone):
    async def scenario(supervisor):
        await supervisor.start([service("worker", DEAF)])
        await until(lambda: "pids" in out.getvalue())
        leader, child = [int(pid) for pid in out.getvalue().split("pids ")[1].split()[:2]]
        os.kill(leader, signal.SIGKILL)
        await asyncio.to_thread(all_gone, [leader, child])

    supervise(console, scenario)


SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from local.console import Console
from local.supervisor import Service, Supervisor

async def main():
    supervisor = Supervisor(Console(Path(sys.argv[1])))
    await supervisor.start([Service("worker", [sys.executable, "-c", sys.argv[2], str(supervisor._lifeline.pid)], 0)])
    await supervisor.watch()

asyncio.run(main())
"""


def test_a_killed_supervisor_leaves_no_process(tmp_path, spawn, all_gone):
    supervisor = spawn("-c", SUPERVISOR, str(tmp_path / "logs"), DEAF)
    pids = [int(pid) for pid in supervisor.stdout.readline().split("pids ")[1].split()]
    assert len(pids) == 3
    supervisor.kill()
    all_gone(pids)


def test_a_quiet_console_shows_trouble_only_and_keeps_everything(console, out, tmp_path):
    console.quiet = True
    console.hear("web", "INFO all is well")
    console.hear("web", "ERROR all is lost")
    assert "all is well" not in out.getvalue()
    assert "web | ERROR all is lost" in out.getvalue()
    assert (tmp_path / "logs" / "web.log").read_text() == "INFO all is well\nERROR all is lost\n"


def test_json_lines_keep_their_fields_and_name_their_service(tmp_path, out):
    console = Console(tmp_path / "logs", as_json=True, out=out)
    console.hear("web", '{"level": "INFO", "msg": "hello"}')
    assert out.getvalue() == '{"service": "web", "level": "INFO", "msg": "hello"}\n'
