from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_celery_results.models import GroupResult, TaskResult

from deadletters import retention as letter_retention
from deadletters.models import DeadLetter
from jobs import retention as job_retention
from jobs.execution import execute
from jobs.models import IdempotencyKey, Job
from jobs.submission import submit
from monitoring import erasure, retention
from monitoring.models import Report, Rollup
from monitoring.tasks import retire_jobs
from tests.monitoring.making import make_finished, make_letter

pytestmark = pytest.mark.django_db(transaction=True)


def days_ago(days: float) -> datetime:
    return timezone.now() - timedelta(days=days)


def make_dead(days: float, *, resolved: float | None, state: str = "FAILURE", **letter: Any) -> Job:
    """A job with a letter, resolved so many days ago or open."""
    job = make_finished("slow", at=days_ago(days), state=state)
    closed = {"resolution": "DROPPED", "resolved_at": days_ago(resolved)} if resolved is not None else {}
    make_letter(job, at=days_ago(days), **closed, **letter)
    return job


def test_dropped_jobs_go_and_no_job_with_an_open_letter_ever_does() -> None:
    gone = make_dead(100, resolved=31)
    open_one = make_dead(1000, resolved=None)
    just_dropped = make_dead(1000, resolved=29)
    both = make_dead(1000, resolved=500)
    make_letter(both, at=days_ago(400), attempt=2)
    protected = make_dead(100, resolved=31)
    IdempotencyKey.objects.create(job=protected, scope="", key="k", fingerprint=b"", expires_at=days_ago(-1))

    assert retention.retire(dry_run=True)["letters"] == 1
    assert Job.objects.filter(pk=gone.pk).exists()
    counts = retention.retire()
    assert (counts["letters"], counts["dropped_jobs"]) == (1, 1)
    assert set(Job.objects.values_list("pk", flat=True)) == {open_one.pk, just_dropped.pk, both.pk, protected.pk}
    assert DeadLetter.objects.filter(job=both).count() == 2


def test_resolved_letters_may_have_a_period_of_their_own(settings: Any) -> None:
    settings.RETENTION_DAYS_BY_STATE = {"FAILURE": 60}
    kept, gone = make_dead(100, resolved=59), make_dead(100, resolved=61)
    assert retention.retire()["letters"] == 1
    assert set(Job.objects.all()) == {kept} and gone != kept


def test_the_letter_of_a_job_that_runs_again_goes_without_it() -> None:
    job = make_dead(100, resolved=31, state="SUCCESS")
    Job.objects.filter(pk=job.pk).update(finished_at=days_ago(1))
    counts = retention.retire()
    assert (counts["letters"], counts["dropped_jobs"]) == (1, 0)
    assert Job.objects.filter(pk=job.pk).exists()


def test_rollups_reports_and_results_have_ages_of_their_own() -> None:
    for days in (399, 401):
        Rollup.objects.create(minute=days_ago(days), queue="low", task="slow")
    for number, days in enumerate((89, 91)):
        report = Report.objects.create(kind="failures", period_start=days_ago(99), period_end=days_ago(98 - number))
        Report.objects.filter(pk=report.pk).update(created_at=days_ago(days))
    for days in (29, 31):
        TaskResult.objects.create(task_id=str(days), content_type="", content_encoding="")
        TaskResult.objects.filter(task_id=str(days)).update(date_done=days_ago(days))
        GroupResult.objects.create(group_id=str(days), content_type="", content_encoding="", result="")
        GroupResult.objects.filter(group_id=str(days)).update(date_done=days_ago(days))
    expected = {"rollups": 1, "reports": 1, "task_results": 1, "group_results": 1}
    assert expected.items() <= retention.retire(dry_run=True).items()
    assert expected.items() <= retention.retire().items()
    assert [model.objects.count() for model in (Rollup, Report, TaskResult, GroupResult)] == [1, 1, 1, 1]


def deleted_per_transaction(queries: CaptureQueriesContext, table: str) -> list[int]:
    """How many statements have deleted from a table in each transaction that did."""
    counts, count = [], 0
    for query in queries.captured_queries:
        if query["sql"] in ("BEGIN", "COMMIT"):
            counts.append(count)
            count = 0
        count += query["sql"].startswith(f'DELETE FROM "{table}"')
    assert count == 0, "deleted outside a transaction"
    return [count for count in counts if count]


def retire(what: str) -> Any:
    return lambda: retention.retire()[what]


def erase_jobs() -> int:
    return len(erasure.erase("user_id", "7", task=None, actor="t", reason="r").jobs)


def make_old_rollup(number: int) -> None:
    Rollup.objects.create(minute=days_ago(500 + number), queue="low", task="slow")


@pytest.mark.parametrize(
    ("make", "forget", "table"),
    [
        (lambda _: make_finished(at=days_ago(31)), retire("jobs"), "jobs_job"),
        (lambda _: make_dead(100, resolved=31), retire("letters"), "deadletters_deadletter"),
        (make_old_rollup, retire("rollups"), "monitoring_rollup"),
        (lambda _: make_finished(at=days_ago(1), payload={"user_id": 7}), erase_jobs, "jobs_job"),
    ],
    ids=["jobs", "letters", "rollups", "purge"],
)
def test_a_backlog_goes_in_bounded_batches_each_a_transaction_of_its_own(
    make: Any, forget: Any, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (job_retention, letter_retention, erasure):
        monkeypatch.setattr(module, "BATCH", 3)
    for number in range(7):
        make(number)
    with CaptureQueriesContext(connection) as queries:
        assert forget() == 7
    assert deleted_per_transaction(queries, table) == [1, 1, 1]


def test_a_report_outlives_the_job_that_wrote_it() -> None:
    job = make_finished("queue_report", at=days_ago(31))
    report = Report.objects.create(kind="hourly", period_start=days_ago(32), period_end=days_ago(31), job=job)
    retention.retire()
    report.refresh_from_db()
    assert (report.job_id, Job.objects.exists()) == (None, False)


def test_the_task_retires_and_tells_what_went(at_work: Any) -> None:
    make_finished(at=days_ago(31))
    job = submit("retire_jobs")
    execute(retire_jobs, job.id)
    job.refresh_from_db()
    assert (job.state, job.result["jobs"]) == ("SUCCESS", 1)
    assert list(Job.objects.all()) == [job]
