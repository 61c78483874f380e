"""The services of docker-compose.yml find each other, and their programs take the options they are given."""

import asyncio
import re
import shutil
import subprocess
from importlib import import_module
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import uvicorn
import yaml
from django.conf import settings
from django.db import connection
from django.test import Client

from config import env
from local.readiness import free_port
from local.roster import FLOWER
from local.valkey import Valkey
from tests.fleet import ROOT
from tests.operations.test_deployment import COMPOSE, EXAMPLE, SERVICES, words
from tests.waiting import eventually

[NETWORK] = COMPOSE["networks"]["switchyard"]["ipam"]["config"]
PORTS = {"postgres": 5432, "redis": 6379, "web": 8000, "prometheus": 9090, "mail": 1025}
ENVIRONMENT: dict[str, str] = SERVICES["web"]["environment"]


def on_this_side(service: str, path: str) -> Path:
    """The file of the project that a path inside a service is mounted from."""
    for volume in SERVICES[service]["volumes"]:
        source, target, *_ = volume.split(":")
        if source.startswith(".") and Path(path).is_relative_to(target):
            return ROOT / source / Path(path).relative_to(target)
    raise AssertionError(f"{path} is not mounted in {service}")


def addresses() -> list[str]:
    """Every host:port that one service, or .env.example, names another by."""
    [source] = yaml.safe_load((ROOT / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    [job] = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    urls = [source["url"], *ENVIRONMENT.values(), *EXAMPLE.splitlines()]
    filled_in = [re.sub(r"\$\{\w+:\?[^}]*\}", "x", str(url)) for url in urls]
    named = [found for url in filled_in for found in re.findall(r"://(?:[^/@ ]*@)?([\w.-]+:\d+)", url)]
    return [*named, *job["static_configs"][0]["targets"]]


def test_services_wait_only_for_services_that_can_be_ready() -> None:
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            runs_once = SERVICES[needed]["restart"] == "no"
            assert how["condition"] == ("service_completed_successfully" if runs_once else "service_healthy")


def test_services_find_each_other_by_name_and_port() -> None:
    assert set(addresses()) == {f"{name}:{port}" for name, port in PORTS.items()}
    assert all("switchyard" in service["networks"] for service in SERVICES.values())
    assert words("web")[words("web").index("--port") + 1] == str(PORTS["web"])


def test_hosts_that_the_services_ask_for_are_allowed() -> None:
    allowed = re.search(r"^ALLOWED_HOSTS=(.*)$", EXAMPLE, re.MULTILINE)
    asked = {"web"} | set(re.findall(r"//([\w.]+):8000", str(SERVICES["web"]["healthcheck"]["test"])))
    assert allowed and asked == {"web", "localhost"} <= set(allowed[1].split(","))


def test_what_grafana_and_prometheus_read_is_mounted() -> None:
    [provider] = yaml.safe_load((ROOT / "grafana/provisioning/dashboards/switchyard.yml").read_text())["providers"]
    assert list(on_this_side("grafana", provider["options"]["path"]).glob("*.json"))
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert on_this_side("grafana", home).is_file()
    assert on_this_side("grafana", "/etc/grafana/provisioning/datasources/prometheus.yml").is_file()
    assert on_this_side("prometheus", option("prometheus", "--config.file")).is_file()


@pytest.mark.django_db(transaction=True)
def test_only_prometheus_reads_the_metrics_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRICS_NETWORKS", ENVIRONMENT["METRICS_NETWORKS"])
    monkeypatch.setattr(settings, "METRICS_NETWORKS", env.env_list("METRICS_NETWORKS"))
    prometheus = SERVICES["prometheus"]["networks"]["switchyard"]["ipv4_address"]
    others = [NETWORK["gateway"], str(next(ip_network(NETWORK["ip_range"]).hosts()))]
    assert Client(REMOTE_ADDR=prometheus).get("/metrics").status_code == 200
    assert [Client(REMOTE_ADDR=address).get("/metrics").status_code for address in others] == [401, 401]


def test_nothing_else_can_take_the_address_of_prometheus() -> None:
    prometheus = ip_address(SERVICES["prometheus"]["networks"]["switchyard"]["ipv4_address"])
    subnet, given = ip_network(NETWORK["subnet"]), ip_network(NETWORK["ip_range"])
    assert prometheus in subnet and given.subnet_of(subnet) and prometheus not in given  # type: ignore[arg-type]
    assert ip_address(NETWORK["gateway"]) in subnet and str(prometheus) != NETWORK["gateway"]


@pytest.mark.parametrize(
    ("peer", "seen"),
    [(NETWORK["gateway"], "203.0.113.9"), ("172.30.250.130", "172.30.250.130")],
    ids=["the proxy of the host", "another container"],
)
def test_logins_are_counted_by_the_address_that_the_proxy_names(
    peer: str, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        clients.append(scope["client"][0])

    monkeypatch.setenv("FORWARDED_ALLOW_IPS", ENVIRONMENT["FORWARDED_ALLOW_IPS"])
    config = uvicorn.Config(application, log_config=None, interface="asgi3")
    config.load()
    headers = [(b"x-forwarded-for", b"198.51.100.7, 203.0.113.9")]
    scope: Any = {"type": "http", "client": (peer, 40000), "headers": headers, "scheme": "http"}
    asyncio.run(config.loaded_app(scope, None, None))  # type: ignore[arg-type]
    assert clients == [seen]


@pytest.mark.needs_debian("prometheus")
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="Debian's package prometheus is not installed")
def test_prometheus_takes_its_options(tmp_path: Path) -> None:
    config = on_this_side("prometheus", option("prometheus", "--config.file"))
    here = {"--config.file": config, "--storage.tsdb.path": tmp_path}
    given = [word.partition("=") for word in words("prometheus")]
    options = [f"{name}={here.get(name, value)}" for name, _, value in given]
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            ["prometheus", *options, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
        )
    try:
        eventually(lambda: is_ready(process, port), within=30, what="Prometheus to be ready")
    finally:
        process.kill()
        process.wait()


def test_redis_takes_its_options(tmp_path: Path) -> None:
    given = {
        name.removeprefix("--"): value for name, value in zip(words("redis")[1::2], words("redis")[2::2], strict=True)
    }
    with Valkey(tmp_path, settings=given) as valkey, redis.Redis.from_url(valkey.url) as client:
        known: Any = {name: client.config_get(name)[name] for name in given}  # type: ignore[index]
    assert known == given | {"maxmemory": str(512 * 2**20)}


@pytest.mark.django_db
def test_postgresql_knows_its_options() -> None:
    given = [word.partition("=")[0] for word in words("postgres")[1:] if word != "-c"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_settings WHERE name = ANY(%s)", [given])
        assert cursor.fetchone() == (len(given),) == (3,)


def test_uvicorn_takes_its_options() -> None:
    program: Any = import_module("uvicorn.main").main
    taken = program.make_context("uvicorn", words("web")[1:]).params
    assert (taken["host"], taken["port"], taken["app"]) == ("0.0.0.0", 8000, "config.asgi:application")


def test_flower_takes_its_options_and_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    # It is not in the environment of these tests, as it is not in that of the workers.
    monkeypatch.syspath_prepend(FLOWER)
    options, error = import_module("flower.options").options, import_module("tornado.options").Error
    given = words("flower")[4:]
    assert options.parse_command_line(["flower", *given], final=False) == []
    with pytest.raises(error):
        options.parse_command_line(["flower", "--no-such-option=1"], final=False)
    asked = {name.removeprefix("FLOWER_").lower() for name in SERVICES["flower"]["environment"] if "FLOWER_" in name}
    assert asked == {"basic_auth"} and all(name in options for name in asked)


def option(service: str, name: str) -> str:
    return next(word.partition("=")[2] for word in words(service) if word.startswith(f"{name}="))


def is_ready(process: subprocess.Popen[bytes], port: int) -> bool:
    assert process.poll() is None, "Prometheus has ended"
    try:
        return httpx.get(f"http://127.0.0.1:{port}/-/ready", trust_env=False).is_success
    except httpx.TransportError:
        return False
