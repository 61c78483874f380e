"""Just below and just above each threshold, for the rules of Prometheus and the conditions of the watch alike."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from monitoring.history import Labels

SECONDS = 15
WELL = {
    "switchyard_database_up": "1+0",
    "switchyard_redis_up": "1+0",
    "switchyard_beat_last_tick_timestamp_seconds": f"0+{SECONDS}",
    'up{job="switchyard"}': "1+0",
}


@dataclass(frozen=True)
class Edge:
    """Series as promtool writes them, `start+step`, one step every 15 seconds, that reach the threshold or do not.

    The alert fires after `steps` for `subject`, `label="value"` or nothing. A series in `below` or `above` may be None:
    it is not there.
    """

    alert: str
    subject: str
    below: dict[str, str | None]
    above: dict[str, str | None]
    steps: int

    def series(self, *, fires: bool) -> dict[str, str]:
        wanted = WELL | (self.above if fires else self.below)
        return {name: values for name, values in wanted.items() if values is not None}


def gauge(alert: str, subject: str, series: str, at: float, over: float, *, holds: int) -> Edge:
    """The alert is about `over`, and not yet about `at`, of a value that stays."""
    return Edge(alert, subject, {series: f"{at}+0"}, {series: f"{over}+0"}, steps=holds // SECONDS)


def rising(alert: str, below: dict[str, float], above: dict[str, float], *, steps: int, subject: str = "") -> Edge:
    """The same about counters, by their rise in each step."""
    return Edge(alert, subject, *({name: f"0+{rise}" for name, rise in each.items()} for each in (below, above)), steps)


DEPTH = 'switchyard_queue_depth{queue="low"}'
AGE = 'switchyard_queue_oldest_age_seconds{{queue="{}"}}'
LETTERS = 'switchyard_jobs_dead_lettered_total{{queue="low", task="{}"}}'
DEATHS = 'switchyard_attempt_deaths_total{{queue="low", task="{}"}}'
ENDED, RETRIED, FAILED = (
    f'switchyard_{name}_total{{queue="low", task="flaky"}}'
    for name in ("attempts_ended", "attempts_retried", "jobs_failed")
)
STARTS = 'switchyard_worker_recent_starts{worker="low@a", kind="worker"}'
SILENT = 'switchyard_worker_heartbeat_age_seconds{worker="low@a", kind="worker"}'
TICKED = "switchyard_beat_last_tick_timestamp_seconds"
PAUSED = 'switchyard_queue_paused{queue="default"}'

EDGES = (
    # 240 more in two minutes, at the end of which there are 500, or 501; then a minute of waiting.
    Edge("QueueGrowing", 'queue="low"', {DEPTH: "260+30"}, {DEPTH: "261+30"}, steps=12),
    # 199 or 201 more in two minutes.
    Edge("QueueGrowing", 'queue="low"', {DEPTH: "9000+24.875"}, {DEPTH: "9000+25.125"}, steps=12),
    gauge("OldestJobTooOld", 'queue="high"', AGE.format("high"), 60, 61, holds=60),
    gauge("OldestJobTooOld", 'queue="low"', AGE.format("low"), 3600, 3601, holds=60),
    gauge("OldestJobTooOld", 'queue="default"', AGE.format("default"), 600, 601, holds=60),
    gauge("OldestJobTooOld", 'queue="solo"', AGE.format("solo"), 600, 601, holds=60),
    Edge(
        "OldestJobTooOld", 'queue="default"',
        {AGE.format("default"): "9000+0", PAUSED: "1+0"}, {AGE.format("default"): "9000+0", PAUSED: "0+0"}, steps=4,
    ),
    gauge("OldSnapshot", "", "switchyard_postgres_oldest_snapshot_seconds", 300, 301, holds=60),
    # 19.8 or 20.4 of two tasks together in 15 minutes.
    rising(
        "DeadLettersGrowing", {LETTERS.format("a"): 0.3, LETTERS.format("b"): 0.03},
        {LETTERS.format("a"): 0.3, LETTERS.format("b"): 0.04}, steps=64,
    ),
    # 24 % or 26 % of 80 in ten minutes, 20 % of them to be tried again.
    rising(
        "ErrorsFrequent", {ENDED: 2, RETRIED: 0.4, FAILED: 0.08}, {ENDED: 2, RETRIED: 0.4, FAILED: 0.12},
        steps=60, subject='task="flaky"',
    ),
    # 19.6 or 20 in ten minutes, every one of which failed; then two minutes of waiting.
    rising(
        "ErrorsFrequent", {ENDED: 0.49, RETRIED: 0.49, FAILED: 0}, {ENDED: 0.5, RETRIED: 0.5, FAILED: 0},
        steps=50, subject='task="flaky"',
    ),
    gauge("NoWorkerOnQueue", 'queue="low"', 'switchyard_queue_workers{queue="low"}', 1, 0, holds=60),
    gauge("WorkerCrashLoop", 'worker="low@a"', STARTS, 4, 5, holds=0),
    # 9.6 or 10.4 of two tasks together in ten minutes.
    rising(
        "WorkerCrashLoop", {DEATHS.format("a"): 0.2, DEATHS.format("b"): 0.04},
        {DEATHS.format("a"): 0.2, DEATHS.format("b"): 0.06}, steps=64,
    ),
    gauge("HeartbeatStale", 'worker="low@a"', SILENT, 20, 21, holds=30),
    Edge("BeatNotTicking", "", {TICKED: "-180+15"}, {TICKED: "-181+15"}, steps=4),
    Edge("BeatNotTicking", "", {}, {TICKED: None}, steps=4),
    gauge("DispatcherLagging", "", "switchyard_dispatcher_lag_seconds", 30, 31, holds=60),
    gauge("DispatcherLagging", "", "switchyard_dispatcher_sweep_age_seconds", 30, 31, holds=60),
    gauge("DatabaseDown", "", "switchyard_database_up", 1, 0, holds=30),
    gauge("RedisDown", "", "switchyard_redis_up", 1, 0, holds=30),
    gauge("TargetAbsent", "", 'up{job="switchyard"}', 1, 0, holds=60),
)  # fmt: skip


def values_at(series: dict[str, str], step: int) -> Iterator[tuple[str, Labels, float]]:
    """Name, labels and value of each series, so many steps on."""
    for each, values in series.items():
        name, _, labels = each.partition("{")
        start, _, rise = values.partition("+")
        yield name, tuple(sorted(re.findall(r'(\w+)="([^"]*)"', labels))), float(start) + float(rise) * step
