"""Queues, workers, schedules and reports over HTTP."""

from datetime import timedelta

from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from jobs.models import Event, Job
from monitoring.models import Report
from tests.api.calling import Api, is_problem
from tests.making import make_worker


def test_a_queue_says_who_paused_it_and_why(api: Api) -> None:
    answer = api.put("queues/low/pause", json={"reason": "deploy"})
    try:
        assert answer.json() == {
            "name": "low",
            "paused": True,
            "paused_by": "admin (token test)",
            "pause_reason": "deploy",
        }
        assert api.get("queues/low").json() | answer.json() == api.get("queues/low").json()
        assert is_problem(api.put("queues/low/pause", json={"reason": "again"}), 409, "conflict")
    finally:
        assert api.delete("queues/low/pause").json()["paused"] is False
    assert is_problem(api.delete("queues/low/pause"), 409, "conflict")
    assert Event.objects.filter(verb="queue paused", actor="admin (token test)", reason="deploy").exists()


def test_a_pause_needs_a_reason(api: Api) -> None:
    assert is_problem(api.put("queues/low/pause", json={}), 422, "invalid")


def test_every_queue_shows_its_load_and_times(api: Api) -> None:
    api.followed(api.submitted())
    found = {queue["name"]: queue for queue in api.get("queues").json()}
    assert list(found) == ["high", "default", "low", "solo", "system"]
    names = ("depth", "oldest_age_seconds", "running", "per_minute", "wait_p50_ms", "wait_p95_ms", "run_p50_ms")
    assert set(found["default"]) >= {*names, "run_p95_ms", "paused", "paused_by", "pause_reason"}
    assert found["default"]["succeeded"] >= 1 and found["default"]["run_p95_ms"] > 0


def test_workers_and_the_other_processes_are_listed(api: Api) -> None:
    make_worker(id="01a1f7e1-947b-78c6-938a-6acbad55160e", name="gone", state="DEAD")
    found = {worker["name"]: worker for worker in api.get("workers").json()}
    assert found["w@test"]["is_alive"] and found["w@test"]["concurrency"] == 2
    assert {worker["kind"] for worker in found.values()} == {"worker", "dispatcher", "beat"} and "gone" not in found


def test_a_schedule_is_listed_and_run_now(api: Api) -> None:
    hourly, _ = IntervalSchedule.objects.get_or_create(every=1, period="hours")
    row = PeriodicTask.objects.create(name="flaky, hourly", task="flaky", interval=hourly, kwargs='{"failures": 0}')
    shown = next(each for each in api.get("schedules").json() if each["id"] == row.pk)
    assert (shown["rule"], shown["payload"], shown["enabled"]) == ("every hour", {"failures": 0}, True)
    assert shown["next_run_at"] > timezone.now().isoformat()
    answer = api.post(f"schedules/{row.pk}/run", headers={"Idempotency-Key": "run"})
    assert answer.status_code == 202 and api.followed(answer.json()["task_id"])["status"] == "SUCCESS"
    again = api.post(f"schedules/{row.pk}/run", headers={"Idempotency-Key": "run"})
    assert again.json()["task_id"] == answer.json()["task_id"]
    assert Job.objects.get(pk=answer.json()["task_id"]).schedule == "flaky, hourly"


def test_a_schedule_of_a_task_that_makes_no_jobs_cannot_be_run(api: Api) -> None:
    hourly, _ = IntervalSchedule.objects.get_or_create(every=1, period="hours")
    row = PeriodicTask.objects.create(name="not a job", task="celery.backend_cleanup", interval=hourly, enabled=False)
    assert is_problem(api.post(f"schedules/{row.pk}/run"), 409, "conflict")


def test_the_latest_report_is_json_csv_and_pdf(api: Api) -> None:
    assert is_problem(api.get("reports/daily/latest"), 404, "not-found")
    task_id = api.submitted("queue_report", {"period": "daily"})
    assert api.followed(task_id)["status"] == "SUCCESS"
    latest = api.get("reports/daily/latest").json()
    assert latest["data"]["title"] == "Queues, daily" and latest["id"] == Report.objects.get(kind="daily").pk
    text, drawn = api.get("reports/daily/latest.csv"), api.get("reports/daily/latest.pdf")
    assert text.text.startswith("queue,") and text.headers["content-type"].startswith("text/csv")
    assert drawn.content.startswith(b"%PDF") and drawn.headers["content-type"] == "application/pdf"
    assert [report["id"] for report in api.get("reports", params={"kind": "daily"}).json()["items"]] == [latest["id"]]
    assert timezone.now() - Report.objects.get(kind="daily").created_at < timedelta(minutes=5)
