"""The conditions and alarms on looks made up minute by minute, and the delivery to real servers."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from local.readiness import free_port
from monitoring import conditions, notices
from monitoring.alarms import Alarms, Notice
from monitoring.conditions import CONDITIONS, findings
from monitoring.history import History, Samples
from monitoring.notices import channels
from tests.monitoring.edges import EDGES, SECONDS, Edge, values_at

WELL: Samples = {
    "switchyard_database_up": {(): 1.0},
    "switchyard_redis_up": {(): 1.0},
    "switchyard_beat_last_tick_timestamp_seconds": {(): 2.0**40},
}


def of(label: str, **values: float) -> dict[Any, float]:
    return {((label, name),): value for name, value in values.items()}


class Minutes:
    """Looks ten seconds apart, and what was told because of them."""

    def __init__(self) -> None:
        self.moment = 1000.0
        self.history = History()
        self.alarms = Alarms()
        self.told: list[tuple[float, str, str, str]] = []

    def look(self, seconds: float = 10, **metrics: Any) -> None:
        self.moment += seconds
        self.hear(WELL | {f"switchyard_{name}": value for name, value in metrics.items()})

    def play(self, series: dict[str, str], *, steps: int) -> None:
        for step in range(steps + 1):
            look: Samples = {}
            for name, labels, value in values_at(series, step):
                look.setdefault(name, {})[labels] = value
            # It has no scrape to miss, it asks the address.
            look["switchyard_web_up"] = {(): max(look.pop("up").values())}
            self.moment = float(step * SECONDS)
            self.hear(look)

    def hear(self, look: Samples) -> None:
        self.history.add(self.moment, look)
        for notice in self.alarms.update(list(findings(self.history)), self.moment):
            self.told.append((self.moment, notice.kind, notice.condition.name, notice.subject))

    def kinds(self) -> list[str]:
        return [kind for _, kind, _, _ in self.told]


def test_a_queue_that_grows_from_50_to_30_000_is_told_within_three_minutes_of_the_change() -> None:
    minutes = Minutes()
    for _ in range(30):
        minutes.look(queue_depth=of("queue", default=50))
    changed, depth = minutes.moment, 50.0
    while depth < 30_000:
        depth += 333
        minutes.look(queue_depth=of("queue", default=depth))
    [(when, kind, _, subject)] = [told for told in minutes.told if told[2] == "QueueGrowing"]
    assert (kind, subject) == ("raised", "default")
    assert when - changed <= 180


def test_a_deep_queue_that_drains_is_not_told() -> None:
    minutes = Minutes()
    for step in range(60):
        minutes.look(queue_depth=of("queue", low=40_000 - step * 100))
    assert minutes.told == []


@pytest.mark.parametrize(
    ("name", "subject", "metrics"),
    [
        ("OldestJobTooOld", "high", {"queue_oldest_age_seconds": of("queue", high=61, low=61)}),
        ("OldSnapshot", "", {"postgres_oldest_snapshot_seconds": {(): 301.0}}),
        ("NoWorkerOnQueue", "solo", {"queue_workers": of("queue", high=1, solo=0)}),
        ("WorkerCrashLoop", "high@a", {"worker_recent_starts": of("worker", **{"high@a": 5, "low@a": 1})}),
        ("HeartbeatStale", "low@a", {"worker_heartbeat_age_seconds": of("worker", **{"low@a": 21, "high@a": 4})}),
        ("BeatNotTicking", "", {"beat_last_tick_timestamp_seconds": {(): 1.0}}),
        ("BeatNotTicking", "", {"beat_last_tick_timestamp_seconds": {}}),
        ("DispatcherLagging", "", {"dispatcher_sweep_age_seconds": {(): 31.0}}),
        ("DatabaseDown", "", {"database_up": {(): 0.0}}),
        ("RedisDown", "", {"redis_up": {(): 0.0}}),
        ("TargetAbsent", "", {"web_up": {(): 0.0}}),
    ],
)
def test_what_lasts_is_told_once_it_has_held_and_never_before(name: str, subject: str, metrics: Any) -> None:
    minutes = Minutes()
    [condition] = [each for each in CONDITIONS if each.name == name]
    began = minutes.moment + 10
    for _ in range(20):
        minutes.look(**metrics)
    [(when, kind, told, about)] = minutes.told
    assert (kind, told, about) == ("raised", name, subject)
    assert when - began == condition.holds


@pytest.mark.parametrize("fires", [False, True], ids=["below", "above"])
@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: f"{edge.alert} {edge.subject}")
def test_the_watch_tells_just_above_every_threshold_and_not_just_below(
    edge: Edge, fires: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prometheus is asked the same in tests/operations/test_prometheus.py."""
    minutes = Minutes()
    monkeypatch.setattr(conditions, "time", SimpleNamespace(time=lambda: minutes.moment))
    minutes.play(edge.series(fires=fires), steps=edge.steps)
    subject = edge.subject.partition('"')[2].rstrip('"')
    expected = [("raised", edge.alert, subject)] if fires else []
    assert [told[1:] for told in minutes.told] == expected


def test_letters_deaths_and_errors_are_judged_by_their_rise() -> None:
    minutes = Minutes()
    tasks = of("task", flaky=1000.0)
    minutes.look(jobs_dead_lettered_total=tasks, attempt_deaths_total=tasks, attempts_ended_total=tasks)
    more = {"attempts_retried_total": of("task", flaky=8), "jobs_failed_total": of("task", flaky=0)}
    grown = {"jobs_dead_lettered_total": of("task", flaky=1021), "attempt_deaths_total": of("task", flaky=1011)}
    minutes.look(attempts_retried_total=of("task", flaky=0), attempts_ended_total=tasks, jobs_dead_lettered_total=tasks)
    for _ in range(15):
        minutes.look(attempts_ended_total=of("task", flaky=1030), **more, **grown)
    assert {(name, subject) for _, _, name, subject in minutes.told} == {
        ("DeadLettersGrowing", ""), ("WorkerCrashLoop", ""), ("ErrorsFrequent", "flaky"),
    }  # fmt: skip


def test_a_condition_that_blinks_is_not_told() -> None:
    minutes = Minutes()
    for step in range(60):
        minutes.look(redis_up={(): float(step % 3 != 0)})
    assert minutes.told == []


def test_a_flapping_condition_is_one_alarm_and_its_end_is_told_after_a_calm() -> None:
    minutes = Minutes()
    for _ in range(5):
        minutes.look(redis_up={(): 0.0})
    for step in range(30):
        minutes.look(redis_up={(): float(step % 2)})
    assert minutes.kinds() == ["raised"]
    for _ in range(13):
        minutes.look()
    assert minutes.kinds() == ["raised", "over"]


def test_an_alarm_that_returns_at_once_waits_for_the_cool_down() -> None:
    minutes = Minutes()
    for down in (8, 60):
        for _ in range(down):
            minutes.look(redis_up={(): 0.0})
        for _ in range(14):
            minutes.look()
    assert minutes.kinds() == ["raised", "over"]
    for _ in range(120):
        minutes.look(redis_up={(): 0.0})
    assert minutes.kinds() == ["raised", "over", "raised"]
    assert minutes.told[-1][0] - minutes.told[0][0] >= 900


def test_an_alarm_that_stands_is_told_again_after_hours() -> None:
    minutes = Minutes()
    for _ in range(60 * 9):
        minutes.look(seconds=60, redis_up={(): 0.0})
    assert minutes.kinds() == ["raised", "still", "still"]


def test_an_outage_inside_the_window_does_not_look_like_growth() -> None:
    minutes = Minutes()
    for step in range(60):
        answers = {} if 20 <= step < 30 else {"jobs_dead_lettered_total": of("task", flaky=5000)}
        minutes.look(**answers)
    assert minutes.told == []


class _Hook(ThreadingHTTPServer):
    """Keeps the bodies it is sent; answers `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Posts)
        self.status, self.bodies = 200, []  # type: ignore[var-annotated]


class _Posts(BaseHTTPRequestHandler):
    server: _Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.status == 200:
            self.server.bodies.append(json.loads(body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def hook(settings: Any) -> Iterator[_Hook]:
    with _Hook() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        settings.WATCH_WEBHOOK_URL = f"http://127.0.0.1:{server.server_port}/"
        yield server
        server.shutdown()
        thread.join()


def news(kind: Any = "raised") -> list[Notice]:
    return [Notice(kind, CONDITIONS[0], "low", "900 jobs wait on low")]


def test_the_webhook_gets_what_slack_understands(hook: _Hook, settings: Any) -> None:
    settings.RUNBOOK_URL = "https://wiki/runbook.md"
    [channel] = channels()
    channel.deliver(news())
    text = "FIRING QueueGrowing: 900 jobs wait on low (https://wiki/runbook.md#queuegrowing)"
    assert hook.bodies == [{"text": text}]


def test_a_webhook_that_is_away_gets_everything_when_it_is_back(hook: _Hook) -> None:
    [channel] = channels()
    hook.status = 503
    channel.deliver(news())
    hook.status = 200
    channel.deliver(news("over"))
    channel.deliver([])
    [body] = hook.bodies
    assert [line.split()[0] for line in body["text"].splitlines()] == ["FIRING", "OVER"]


def test_mail_goes_to_the_recipients_and_waits_for_a_server_that_is_away(settings: Any) -> None:
    inbox: list[Any] = []

    class Keep:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            inbox.append(envelope)
            return "250 OK"

    port = free_port()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
    settings.WATCH_RECIPIENTS = ["sre@example.com"]
    [channel] = channels()
    channel.deliver(news())
    controller = Controller(Keep(), hostname="127.0.0.1", port=port)
    controller.start()
    channel.deliver([])
    controller.stop()
    [envelope] = inbox
    assert envelope.rcpt_tos == ["sre@example.com"]
    assert b"Subject: [switchyard] FIRING QueueGrowing: 900 jobs wait on low" in envelope.content


def test_without_settings_nobody_is_told_but_the_log(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert channels() == []
    with caplog.at_level("INFO"):
        notices.log(news()[0])
    assert caplog.records[0].__dict__["alert"] == "QueueGrowing"
