"""The metrics of the whole system, whichever process is asked: read from PostgreSQL and Redis, held nowhere."""

import logging
import time
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from django.db import InterfaceError, OperationalError, connection, transaction
from prometheus_client import GC_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from api.serving import expect_an_answer
from jobs.policies import policy, tables
from monitoring import counters
from monitoring.counters import Counts, Key
from monitoring.gauges import gauge, gauges, redis_gauges
from monitoring.histograms import BOUNDS_MS
from monitoring.totals import Totals

logger = logging.getLogger(__name__)
LABELS = ("queue", "task")
COUNTERS = {
    "submitted": ("jobs_submitted", "Jobs submitted."),
    "started": ("attempts_ended", "Attempts that started and have ended, however they did."),
    "succeeded": ("jobs_succeeded", "Jobs that succeeded."),
    "failed": ("jobs_failed", "Jobs that failed for good."),
    "retried": ("attempts_retried", "Attempts that failed and will be tried again."),
    "dead_lettered": ("jobs_dead_lettered", "Dead letters written."),
    "revoked": ("jobs_revoked", "Jobs cancelled or expired."),
    "deaths": ("attempt_deaths", "Attempts whose process died."),
    "released": ("attempts_released", "Attempts given back by a worker that was stopped."),
    "fenced": ("attempts_fenced", "Attempts that came back after their job had gone to another one."),
    "republished": ("tickets_republished", "Tickets that were lost and issued again."),
    "duplicates": ("tickets_refused", "Tickets refused because their job ran or was over: duplicates."),
}
EVENTS = {
    counters.REPLAYED: ("jobs_replayed", "Dead letters replayed."),
}
HISTOGRAMS = {
    "wait": ("job_wait_seconds", "From due to started."),
    "run": ("job_run_seconds", "From started to ended."),
}


class JobCollector(Collector):
    def collect(self) -> Iterator[Metric]:
        started = time.monotonic()
        yield from _from_postgres()
        yield from redis_gauges()
        yield gauge("scrape_seconds", "How long collecting took.", time.monotonic() - started)


registry = CollectorRegistry(auto_describe=False)
for collector in (JobCollector(), PROCESS_COLLECTOR, GC_COLLECTOR):
    registry.register(collector)


def exposition(accept: str) -> tuple[bytes, str]:
    """The metrics in the format that the Accept header asks for, and its content type."""
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _from_postgres() -> list[Metric]:
    """All or nothing: half an answer would look like queues that are empty."""
    up = "1 while PostgreSQL answers."
    try:
        expect_an_answer()
        counters.fold()
        with transaction.atomic():
            counters.read_only_snapshot()
            return [*_counted(counters.counts()), *gauges(), gauge("database_up", up, 1)]
    except (OperationalError, InterfaceError) as error:
        logger.warning("metrics not readable", extra={"reason": str(error).strip()})
        connection.close_if_unusable_or_obsolete()
        return [gauge("database_up", up, 0)]


def _counted(counts: Counts) -> Iterator[Metric]:
    keys = sorted(_declared() | counts.totals.keys())
    found = {key: counts.totals.get(key, Totals()) for key in keys}
    for name, (metric, text) in COUNTERS.items():
        yield _counter(metric, text, {key: getattr(total, name) for key, total in found.items()})
    for verb, (metric, text) in EVENTS.items():
        yield _counter(metric, text, {key: counts.events[verb, *key] for key in keys})
    for kind, (metric, text) in HISTOGRAMS.items():
        yield _histogram(metric, text, kind, found)


def _declared() -> set[Key]:
    """Every task on its own queue is there from the start: a counter that begins above 0 has no increase."""
    return {(policy(task).queue, task) for task in tables()}


def _counter(name: str, text: str, values: dict[Key, int]) -> Metric:
    family = CounterMetricFamily(f"switchyard_{name}", text, labels=LABELS)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _histogram(name: str, text: str, kind: str, found: dict[Key, Totals]) -> Metric:
    family = HistogramMetricFamily(f"switchyard_{name}", text, labels=LABELS)
    bounds = [*(str(ms / 1000) for ms in BOUNDS_MS), "+Inf"]
    for key, total in found.items():
        rising: Any = accumulate(getattr(total, f"{kind}_buckets"))
        seconds = getattr(total, f"{kind}_ms_sum") / 1000
        family.add_metric(key, buckets=list(zip(bounds, rising, strict=True)), sum_value=seconds)
    return family
