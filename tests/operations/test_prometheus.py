"""A real Prometheus: it scrapes a real web process, loads every rule, and has data for every panel."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
import yaml
from django.contrib.auth import get_user_model
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from prometheus_client.parser import text_string_to_metric_families

from api.models import ApiToken
from jobs.dispatch import sample
from local.binaries import BinaryMissing
from local.metrics import ask, missing, rules
from local.prometheus import DASHBOARD, RULES, panels, prometheus_command
from local.readiness import free_port
from local.roster import roster
from local.up import parse
from monitoring import rollups
from monitoring.conditions import CONDITIONS
from monitoring.history import Samples, samples
from monitoring.metrics import COUNTERS, EVENTS, HISTOGRAMS, registry
from tests.fleet import Fleet
from tests.making import make_job, make_worker
from tests.monitoring.edges import EDGES, SECONDS, Edge
from tests.monitoring.making import make_attempt, make_finished, make_history, make_letter
from tests.waiting import eventually

PROMTOOL = shutil.which("promtool")
absent = pytest.mark.skipif(PROMTOOL is None, reason="Debian's package prometheus is not installed")
UNITS = {"s": 1, "m": 60}


def alerts() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    return group["rules"]


@pytest.fixture(scope="module")
def web(fleet: Fleet) -> str:
    return fleet.web(ALLOWED_HOSTS="127.0.0.1")


@pytest.fixture
def token(web: str) -> str:
    owner, _ = get_user_model().objects.get_or_create(username="prometheus")
    return ApiToken.issue(name="prometheus", owner=owner, scopes=["metrics"])[1]


@pytest.fixture
def prometheus(web: str, token: str, tmp_path: Path) -> Iterator[int]:
    (tmp_path / "token").write_text(token)
    port = free_port()
    command = prometheus_command(
        tmp_path, port=port, web_port=int(web.rpartition(":")[2]), token_file=tmp_path / "token", every="1s"
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    yield port
    process.kill()
    process.wait()


def alerted(port: int, name: str) -> set[str]:
    """Queues an alert is pending or firing for."""
    found = ask(port, "query", query=f'ALERTS{{alertname="{name}"}}').get("result", [])
    return {each["metric"]["queue"] for each in found}


def some_of_everything(random: Random) -> None:
    now = timezone.now()
    make_history(random, count=40, since=now - timedelta(minutes=2), until=now)
    job = make_finished(state="FAILURE", at=now)
    make_attempt(job, 1, "RETRY", at=now, delay=1.0)
    make_letter(job, at=now)


@pytest.mark.needs_debian("prometheus")
@absent
def test_every_rule_is_loaded_and_every_panel_has_data(prometheus: int) -> None:
    make_worker(queues=["default"])
    make_job()
    every_minute = IntervalSchedule.objects.create(every=1, period="minutes")
    PeriodicTask.objects.create(name="t", task="t", interval=every_minute, last_run_at=timezone.now())
    some_of_everything(Random(1))
    rollups.build()
    sample()
    eventually(lambda: ask(prometheus, "query", query="up == 1").get("result"), within=60, what="a scrape")
    some_of_everything(Random(2))
    rollups.build()
    with suppress(AssertionError):
        eventually(lambda: not missing(prometheus), within=30, what="every panel to have data")
    assert missing(prometheus) == []
    eventually(lambda: rules(prometheus) == len(alerts()), within=15, what="every rule to be evaluated")
    unserved = {"high", "low", "solo", "system"}
    eventually(lambda: alerted(prometheus, "NoWorkerOnQueue") >= unserved, within=15, what="the alert")


def counters_at(address: str, token: str) -> Samples:
    answer = httpx.get(f"{address}/metrics", headers={"Authorization": f"Bearer {token}"}, trust_env=False)
    found = samples(text_string_to_metric_families(answer.raise_for_status().text))
    return {name: of for name, of in found.items() if re.fullmatch(r"switchyard_\w+_(total|bucket|count|sum)", name)}


def test_counters_are_the_same_whichever_process_answers_and_survive_a_restart(
    fleet: Fleet, web: str, token: str
) -> None:
    some_of_everything(Random(3))
    before = counters_at(web, token)
    assert sum(before["switchyard_jobs_submitted_total"].values()) >= 41
    assert len(before) == len(COUNTERS) + len(EVENTS) + 3 * len(HISTOGRAMS)
    # What is asked more often must not count more.
    assert counters_at(web, token) == before
    for _ in range(2):
        assert counters_at(fleet.web("other", ALLOWED_HOSTS="127.0.0.1"), token) == before
        fleet.kill("other")


@pytest.mark.needs_debian("prometheus")
@absent
def test_the_rules_pass_their_own_tests() -> None:
    for arguments in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run(
            [str(PROMTOOL), *arguments], cwd=RULES.parent, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def as_promtool_tests(edge: Edge) -> Iterator[dict[str, Any]]:
    """That nothing fires below an edge, and above it the alert and nothing else."""
    for fires in (False, True):
        alert = f'{{alertname="{edge.alert}"' + (f", {edge.subject}}}" if edge.subject else "}")
        yield {
            "name": f"{edge.alert} {edge.series(fires=fires)}",
            "interval": f"{SECONDS}s",
            "input_series": [
                {"series": name, "values": f"{values}x{edge.steps}"}
                for name, values in edge.series(fires=fires).items()
            ],
            "promql_expr_test": [
                {
                    "expr": 'count by (alertname, queue, task, worker) (ALERTS{alertstate="firing"})',
                    "eval_time": f"{edge.steps * SECONDS}s",
                    "exp_samples": [{"labels": alert, "value": 1}] if fires else [],
                }
            ],
        }


@pytest.mark.needs_debian("prometheus")
@absent
def test_the_rules_fire_just_above_every_threshold_and_not_just_below(tmp_path: Path) -> None:
    """The watch is asked the same in tests/monitoring/test_watch.py."""
    assert {edge.alert for edge in EDGES} == {each.name for each in CONDITIONS}
    tests = [test for edge in EDGES for test in as_promtool_tests(edge)]
    asked = {"rule_files": [str(RULES)], "evaluation_interval": f"{SECONDS}s", "tests": tests}
    (tmp_path / "edges.yml").write_text(json.dumps(asked))
    command = [str(PROMTOOL), "test", "rules", str(tmp_path / "edges.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.needs_debian("prometheus")
@absent
def test_the_shipped_configuration_is_valid() -> None:
    command = [str(PROMTOOL), "check", "config", str(RULES.parent / "prometheus.yml")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_every_alert_is_tested_firing_and_quiet() -> None:
    cases = [
        case
        for test in yaml.safe_load((RULES.parent / "alerts_test.yml").read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    firing = {case["alertname"] for case in cases if case.get("exp_alerts")}
    quiet = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    names = {alert["alert"] for alert in alerts()}
    assert firing == names
    assert quiet >= names - {"OldestJobTooOld", "ErrorsFrequent"}


def test_prometheus_and_the_watch_know_the_same_alerts() -> None:
    theirs = {each["alert"]: (each["labels"]["severity"], seconds(each.get("for", "0s"))) for each in alerts()}
    assert theirs == {each.name: (each.severity, each.holds) for each in CONDITIONS}


def test_every_alert_leads_to_its_section_of_the_runbook() -> None:
    runbook = (RULES.parent.parent / "docs" / "runbook.md").read_text()
    anchors = {heading.strip().lower() for heading in re.findall(r"^## (\w+)$", runbook, re.MULTILINE)}
    for alert in alerts():
        assert alert["annotations"]["runbook_url"].partition("#")[2] == alert["alert"].lower()
        assert alert["alert"].lower() in anchors


def variables() -> list[str]:
    """What fills the menus of the dashboard."""
    return [each["query"]["query"] for each in json.loads(DASHBOARD.read_text())["templating"]["list"]]


def test_the_command_for_other_links_changes_every_one_and_leaves_the_rules_valid(tmp_path: Path) -> None:
    [command] = re.findall(r"^sed -i .*$", (RULES.parent.parent / "docs" / "operations.md").read_text(), re.MULTILINE)
    shutil.copytree(RULES.parent, tmp_path / "prometheus")
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    changed = [(tmp_path / "prometheus" / name).read_text() for name in ("alerts.yml", "alerts_test.yml")]
    assert not any("example.com" in text for text in changed)
    assert yaml.safe_load(changed[0]) == yaml.safe_load(
        RULES.read_text().replace(
            "https://example.com/switchyard/docs/runbook.md", "https://wiki.example.org/runbook.md"
        )
    )


@pytest.mark.django_db(transaction=True)
def test_every_metric_in_a_panel_a_menu_or_a_rule_exists() -> None:
    exposed = {name for family in registry.collect() for name in (family.name, *(s.name for s in family.samples))}
    expressions = [*(each for exprs in panels().values() for each in exprs), *(alert["expr"] for alert in alerts())]
    assert len(variables()) == 2
    used = {name for each in [*expressions, *variables()] for name in re.findall(r"\b(?:switchyard|process)_\w+", each)}
    assert used <= exposed
    assert samples(registry.collect()).keys() > {"switchyard_database_up", "switchyard_redis_up"}


def test_the_dashboard_is_one_grafana_can_tell_apart() -> None:
    board = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    assert board["uid"] == "switchyard"
    assert board["panels"][0]["title"].startswith("3 am")
    source = yaml.safe_load((DASHBOARD.parents[1] / "provisioning/datasources/prometheus.yml").read_text())
    assert {panel["datasource"]["uid"] for panel in board["panels"] if "datasource" in panel} == {
        each["uid"] for each in source["datasources"]
    }


@pytest.mark.needs_debian("prometheus")
@absent
def test_up_runs_a_prometheus_and_a_watch_when_asked(tmp_path: Path) -> None:
    options = parse(["--metrics", "9471", "--port", "8123"])
    services = roster(options, {}, state=tmp_path, mailbox=1, gateway=2, flower_login="")
    commands = {service.name: service.command for service in services}
    assert commands["watch"][-1] == "watch"
    assert "--web.listen-address=127.0.0.1:9471" in commands["prometheus"]
    config = tmp_path / "prometheus" / "prometheus.yml"
    assert "127.0.0.1:8123" in config.read_text()
    checked = subprocess.run(
        [str(PROMTOOL), "check", "config", "--syntax-only", config], capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_without_a_prometheus_up_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BinaryMissing, match="No prometheus was found on PATH"):
        prometheus_command(tmp_path, port=1, web_port=2, token_file=tmp_path / "t")


def seconds(text: str) -> float:
    return float(text[:-1]) * UNITS[text[-1]]
