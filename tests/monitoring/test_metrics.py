import shutil
import subprocess
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from api.models import ApiToken
from deadletters.models import DeadLetter
from jobs import registry
from jobs.execution import execute
from jobs.ids import uuid7
from jobs.models import Event, Job, Worker
from jobs.pausing import pause
from monitoring import counters, metrics, retention, rollups
from monitoring.history import Samples, samples
from monitoring.models import CounterState, Rollup
from tests.making import force_state, make_job, make_worker
from tests.monitoring.making import make_attempt, make_finished, make_history, make_letter

pytestmark = pytest.mark.django_db(transaction=True)
DEFAULT = (("queue", "default"), ("task", "process_data"))


def read() -> Samples:
    return samples(metrics.JobCollector().collect())


def counted(found: Samples, name: str) -> float:
    return sum(found[f"switchyard_{name}"].values())


def of_queue(found: Samples, name: str, queue: str = "default") -> float:
    return found[f"switchyard_{name}"][(("queue", queue),)]


def submitted(counted: counters.Counts) -> int:
    return sum(each.submitted for each in counted.totals.values())


def ago(**span: float) -> datetime:
    return timezone.now() - timedelta(**span)


@pytest.fixture
def scrape(settings: Any) -> Client:
    settings.METRICS_NETWORKS = ["10.1.0.0/16"]
    return Client(REMOTE_ADDR="10.1.2.3")


def token(*scopes: str, django_user_model: Any) -> str:
    owner = django_user_model.objects.create_user("metrics")
    return ApiToken.issue(name="prometheus", owner=owner, scopes=list(scopes))[1]


def test_a_token_without_the_scope_is_refused_and_one_with_it_is_served(django_user_model: Any) -> None:
    without = token("read", django_user_model=django_user_model)
    _, secret = ApiToken.issue(name="p", owner=django_user_model.objects.get(), scopes=["metrics"])
    answers = [Client().get("/metrics", headers={"Authorization": f"Bearer {each}"}) for each in ("x", without, secret)]
    assert [answer.status_code for answer in answers] == [401, 403, 200]
    assert answers[0].headers["WWW-Authenticate"].startswith("Bearer")


def test_a_network_is_let_in_only_when_it_is_named(scrape: Client, settings: Any) -> None:
    assert scrape.get("/metrics").status_code == 200
    assert Client(REMOTE_ADDR="10.2.0.1").get("/metrics").status_code == 401
    settings.METRICS_NETWORKS = []
    assert scrape.get("/metrics").status_code == 401


def scraped(scrape: Client, accept: str) -> bytes:
    """Everything there may be, in the format asked for."""
    make_history(Random(7), count=60, since=ago(hours=2), until=ago(minutes=1))
    make_worker()
    answer = scrape.get("/metrics", headers={"Accept": accept})
    assert answer.headers["Content-Type"].startswith(accept)
    return answer.content


@pytest.mark.needs_debian("prometheus")
def test_promtool_finds_nothing_wrong_with_them(scrape: Client) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool comes with Debian's prometheus, which is not installed")
    text = scraped(scrape, "text/plain; version=0.0.4")
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_openmetrics_is_valid_too_and_says_the_same(scrape: Client) -> None:
    text = scraped(scrape, "application/openmetrics-text; version=1.0.0").decode()
    strict = list(openmetrics.text_string_to_metric_families(text))
    plain = list(text_string_to_metric_families(scrape.get("/metrics").content.decode()))
    assert text.endswith("# EOF\n")
    assert {sample.name for family in strict for sample in family.samples} == {
        sample.name for family in plain for sample in family.samples
    }


def test_counters_are_the_same_before_and_after_rollups_fold_and_retention() -> None:
    make_history(Random(3), count=150, since=ago(days=2), until=ago(minutes=1))
    live = counters.counts()
    rollups.build()
    rolled = counters.counts()
    counters.fold()
    assert CounterState.objects.get().until > ago(hours=1)
    Rollup.objects.filter(minute__lt=ago(hours=1)).delete()
    assert rolled.totals == counters.counts().totals
    # Two days are more than is counted live, so only what is built is complete.
    assert sum(each.submitted for each in live.totals.values()) <= sum(
        each.submitted for each in rolled.totals.values()
    )
    assert sum(each.submitted for each in rolled.totals.values()) == Job.objects.count()


def test_counters_do_not_fall_when_jobs_are_retired(settings: Any) -> None:
    settings.RETENTION_DAYS = 0.1
    for _ in range(5):
        make_finished(at=ago(hours=5))
    assert rollups.build().is_complete
    before = read()["switchyard_jobs_succeeded_total"][DEFAULT]
    assert retention.retire()["jobs"] == 5
    assert before == 5 == read()["switchyard_jobs_succeeded_total"][DEFAULT]


def test_a_job_counts_at_once_though_no_rollup_is_built_yet() -> None:
    make_finished(at=ago(seconds=2), wait=0.3, run=0.7, created_at=ago(seconds=3))
    found = read()
    assert found["switchyard_jobs_succeeded_total"][DEFAULT] == 1
    buckets = {
        dict(labels)["le"]: value
        for labels, value in found["switchyard_job_run_seconds_bucket"].items()
        if set(DEFAULT) < set(labels)
    }
    assert (buckets["0.5"], buckets["1.0"], buckets["+Inf"]) == (0, 1, 1)
    assert found["switchyard_job_wait_seconds_sum"][DEFAULT] == pytest.approx(0.3, abs=0.01)


def test_a_dead_builder_stops_the_counters_but_never_turns_them_back() -> None:
    make_finished(at=ago(minutes=200), created_at=ago(minutes=201))
    make_finished(at=ago(minutes=1), created_at=ago(minutes=2))
    assert counted(read(), "jobs_succeeded_total") == 1
    rollups.build()
    assert counted(read(), "jobs_succeeded_total") == 2


def test_lost_tickets_refused_tickets_and_replays_are_counted() -> None:
    job = make_job()
    names = ("tickets_republished_total", "tickets_refused_total", "jobs_replayed_total")
    for verb in (rollups.REPUBLISHED, rollups.REFUSED, rollups.REFUSED, counters.REPLAYED, "cancelled"):
        Event.objects.create(job=job, verb=verb, at=ago(minutes=2))
    Job.objects.update(created_at=ago(minutes=3))
    assert [counted(read(), name) for name in names] == [1, 2, 1]
    rollups.build()
    assert [counted(read(), name) for name in names] == [1, 2, 1]


def test_every_declared_task_is_there_from_the_start() -> None:
    found = read()["switchyard_jobs_dead_lettered_total"]
    assert found[(("queue", "high"), ("task", "send_email"))] == 0


def test_queues_show_depth_age_running_pause_and_workers() -> None:
    worker = make_worker(queues=["default"])
    make_job(run_at=ago(seconds=90))
    make_job(delay=3600)
    force_state(make_job(), "STARTED", worker_id=worker.pk, claim_token=uuid7(), started_at=timezone.now())
    pause("default", actor="t", reason="r")
    found = read()
    names = ("queue_depth", "queue_running", "queue_paused", "queue_workers")
    assert [of_queue(found, name) for name in names] == [1, 1, 1, 1]
    assert of_queue(found, "queue_oldest_age_seconds") == pytest.approx(90, abs=5)
    assert [of_queue(found, name, "low") for name in names] == [0, 0, 0, 0]


def test_a_due_job_without_a_ticket_is_the_dispatchers_lag_unless_its_queue_is_paused() -> None:
    job = make_job(run_at=ago(seconds=50))
    Job.objects.filter(pk=job.pk).update(dispatched_at=None)
    assert read()["switchyard_dispatcher_lag_seconds"][()] == pytest.approx(50, abs=5)
    pause("default", actor="t", reason="r")
    assert read()["switchyard_dispatcher_lag_seconds"][()] == 0


def test_a_worker_that_vanished_is_down_and_one_that_was_told_to_stop_is_not_missed() -> None:
    make_worker(id=uuid7(), name="lost", state="DEAD", heartbeat_at=ago(seconds=45))
    make_worker(id=uuid7(), name="left", state="DEAD", heartbeat_at=ago(seconds=45), stop_requested_at=timezone.now())
    make_worker(id=uuid7(), name="back", state="DEAD", started_at=ago(seconds=60))
    make_worker(id=uuid7(), name="back")
    found = {dict(labels)["worker"]: value for labels, value in read()["switchyard_worker_up"].items()}
    assert found == {"lost": 0, "back": 1}
    starts = read()["switchyard_worker_recent_starts"]
    assert starts[(("kind", "worker"), ("worker", "back"))] == 2


def test_open_letters_are_counted_by_task_and_cause() -> None:
    for resolution in (None, None, "DROPPED"):
        job = make_finished(state="FAILURE", at=ago(minutes=5))
        letter = make_letter(job, at=ago(minutes=5))
        if resolution:
            DeadLetter.objects.filter(pk=letter.pk).update(resolution=resolution, resolved_at=timezone.now())
    found = read()["switchyard_dead_letters_open"]
    assert found == {(("cause", "EXHAUSTED"), ("task", "process_data")): 2}


def test_attempts_that_failed_count_as_retried_and_dead() -> None:
    job = make_finished(at=ago(seconds=20))
    make_attempt(job, 1, "RETRY", at=ago(seconds=10), delay=2.0)
    make_attempt(job, 2, "LOST", at=ago(seconds=9), delay=1.0)
    found = read()
    assert [counted(found, name) for name in ("attempts_retried_total", "attempt_deaths_total")] == [1, 1]


def test_the_process_that_answers_tells_its_own_memory(scrape: Client) -> None:
    assert b"\nprocess_resident_memory_bytes " in scrape.get("/metrics").content


def test_workers_are_bounded_however_many_there_were() -> None:
    Worker.objects.bulk_create(Worker(kind="worker", name=f"w{number}", host="h", pid=1) for number in range(600))
    assert len(read()["switchyard_worker_up"]) == 500


def test_a_ticket_of_a_finished_job_is_a_duplicate_and_one_that_is_early_is_not(at_work: Any) -> None:
    over, early = make_finished("flaky", at=ago(minutes=1)), make_job(delay=600)
    for job in (over, early, over):
        assert execute(registry.find(job.task), job.pk) is None
    assert counted(read(), "tickets_refused_total") == 2
