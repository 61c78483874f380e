"""An operator's day, click by click."""

from collections.abc import Callable
from typing import Any

from django.urls import reverse

from deadletters.models import DeadLetter, ReplayOperation
from jobs.bulk import submit_many
from jobs.drafting import draft
from jobs.models import Event, Job, Queue
from jobs.submission import submit
from tests.browser.failed import make_failed
from tests.browser.person import Person

Come = Callable[..., Person]
# A socket that closes at once, as behind a proxy that knows none.
NO_SOCKET = """
window.WebSocket = class { static OPEN = 1; readyState = 3; constructor() { setTimeout(() => this.onclose?.()); } };
"""
GROUPS = "/admin/deadletters/deadletter/groups/"


def page_of(job: Job) -> str:
    return reverse("admin:jobs_job_change", args=[job.pk])


def started(person: Person, job: Job) -> None:
    person.waits(lambda: Job.objects.filter(pk=job.pk, state="STARTED").exists(), "the job to start")


def test_a_person_logs_in_and_sees_whether_it_is_flowing(person: Come) -> None:
    mira = person(log_in=False)
    person("viewer", log_in=False)
    mira.open("/admin/").write("#id_username", "viewer").write("#id_password", "wrong").click("[type=submit]")
    mira.sees("Please enter the correct username and password")
    mira.write("#id_username", "viewer").write("#id_password", "correct horse 1").click("[type=submit]")
    mira.sees("Flowing", css="#status h1")
    assert mira.driver.title == "Overview | Switchyard"


def test_the_overview_updates_by_itself_while_jobs_run(person: Come) -> None:
    mira = person().open("/admin/")
    mira.sees("Live", css="#fresh")
    mira.run("window.neverLeft = true")
    # The page also renews itself by asking for all of it anew; without that, numbers can only come from the socket.
    mira.tell_browser("Network.enable")
    mira.tell_browser("Network.setBlockedURLs", urls=["*/admin/*"])
    jobs = [submit("slow", {"seconds": 12}) for _ in range(2)]
    mira.sees("2", css="[data-queue=default] [data-value=running]")
    mira.sees("Live", css="#fresh")
    mira.tell_browser("Network.setBlockedURLs", urls=[])
    mira.sees("slow", css="#workers")
    mira.sees("0", css="[data-queue=default] [data-value=running]")
    assert {Job.objects.get(pk=job.pk).state for job in jobs} == {"SUCCESS"}
    assert mira.run("return window.neverLeft")


def test_without_the_socket_the_overview_asks_and_without_answers_it_says_since_when(person: Come) -> None:
    mira = person()
    script = mira.tell_browser("Page.addScriptToEvaluateOnNewDocument", source=NO_SOCKET)["identifier"]
    try:
        mira.open("/admin/").sees("Polling", css="#fresh")
        job = submit("slow", {"seconds": 10})
        mira.sees("1", css="[data-queue=default] [data-value=running]")
        mira.tell_browser("Network.enable")
        mira.tell_browser("Network.setBlockedURLs", urls=["*now.json*"])
        mira.sees("Stale since", css="#fresh")
        mira.tell_browser("Network.setBlockedURLs", urls=[])
        mira.sees("Polling", css="#fresh")
        mira.waits(lambda: Job.objects.get(pk=job.pk).is_final, "the job to end")
    finally:
        mira.tell_browser("Page.removeScriptToEvaluateOnNewDocument", identifier=script)


def test_a_running_job_is_cancelled_with_a_reason(person: Come) -> None:
    job = submit("slow", {"seconds": 300})
    mira = person("operator")
    started(mira, job)
    mira.open(page_of(job)).sees("It is running on")
    mira.press("Cancel").sees("Running ones are ended by their worker")
    mira.write("#id_reason", "wrong customer").click("button.destructive")
    mira.sees("Revoked", css="#job-state")
    mira.sees("cancel requested by operator: wrong customer")
    assert Job.objects.get(pk=job.pk).state == "REVOKED"


def test_all_jobs_that_match_are_cancelled_in_the_background(person: Come) -> None:
    far = {"queue": "low", "run_at": "2100-01-01T00:00:00Z", "tags": ["a-bulk"]}
    submit_many([draft("flaky", {"failures": 0}, **far) for _ in range(1200)])  # type: ignore[arg-type]
    mira = person("operator").open("/admin/jobs/job/?q=tag:a-bulk")
    mira.click("#action-toggle").press("Select all that match").press("Cancel")
    mira.sees("Cancel 1,200 jobs?")
    mira.write("#id_reason", "wrong import").click("button.destructive")
    mira.sees("Done", css="#operation-state")
    mira.sees("1,200", css="#operation-done")
    mira.sees("bulk operation started by operator")
    assert Job.objects.filter(tags=["a-bulk"], state="REVOKED").count() == 1200


def test_the_page_of_a_running_job_shows_its_progress_live(person: Come) -> None:
    job = submit("slow", {"seconds": 4})
    mira = person("viewer")
    started(mira, job)
    mira.open(page_of(job)).sees("Started", css="#job-state")
    mira.waits(lambda: mira.all("progress"), "a progress bar")
    mira.sees("Success", css="#job-state")


def test_a_failing_group_is_edited_replayed_paused_resumed_and_done(person: Come) -> None:
    letters = make_failed(25, "ReadTimeout: partner did not answer", "a-timeout")
    mira = person("operator").open(GROUPS)
    mira.sees("ReadTimeout", css="#groups")
    mira.press("ReadTimeout").press(f"Letter {letters[-1].pk}")
    edit_one(mira)
    mira.waits(lambda: Job.objects.get(pk=letters[-1].job_id).state == "SUCCESS", "the edited job to succeed")
    mira.open(f"{GROUPS}a-timeout/").sees("24", css="#willing")
    mira.write("#id_reason", "partner is back").write("#id_pace", "4").click("#replay-preview")
    mira.sees("24 letters, in about 6.0 s", css="#preview")
    mira.click("#replay-now").sees("Running", css="#replay-state")
    mira.click("#replay-toggle").sees("Paused", css="#replay-state")
    operation = ReplayOperation.objects.get(filter__fingerprint="a-timeout")
    assert operation.done < 24
    mira.click("#replay-toggle").sees("Done", css="#replay-state")
    mira.sees("of 24 sent", css="#replay")
    mira.sees("No letter of this group is open", css="#group-head")
    mira.waits(lambda: not mira.all("#members"), "the list of open letters to go")
    operation.refresh_from_db()
    assert (operation.done, operation.skipped, operation.reason) == (24, 0, "partner is back")
    assert audit(operation) == ["replay started", "replay paused", "replay resumed"]


def edit_one(mira: Person) -> None:
    """A bad payload, a good one, a look at the difference, and the replay."""
    mira.write("#id_payload", '{"failures": "many"}').write("#id_reason", "wrong number").click("#edit-preview")
    mira.sees("/payload/failures")
    mira.write("#id_payload", '{"failures": 1}').click("#edit-preview")
    mira.sees('-  "failures": 0', css="#difference")
    mira.sees('+  "failures": 1', css="#difference")
    mira.click("#edit-replay").sees("Replayed with an edited payload")


def audit(operation: ReplayOperation) -> list[str]:
    return list(Event.objects.filter(details__operation=operation.pk).order_by("at").values_list("verb", flat=True))


def test_an_aborted_replay_is_final(person: Come) -> None:
    make_failed(50, "KeyError: 'vat_rate'", "an-abort")
    mira = person("operator").open(f"{GROUPS}an-abort/")
    mira.write("#id_reason", "too early").write("#id_pace", "2").click("#replay-now")
    mira.sees("Running", css="#replay-state")
    mira.click("#replay-abort").click("#replay-abort-now")
    mira.sees("Aborted", css="#past")
    operation = ReplayOperation.objects.get(filter__fingerprint="an-abort")
    mira.open(reverse("admin:deadletters_replayoperation_change", args=[operation.pk]))
    mira.sees("Aborted", css="#replay-state")
    assert not mira.all("#replay-toggle")
    mira.sees("too early")
    mira.sees("replay aborted by operator")
    assert operation.done + DeadLetter.objects.open().filter(fingerprint="an-abort").count() == 50


def test_a_group_is_dropped_with_a_reason(person: Come) -> None:
    make_failed(7, "CardDeclined: insufficient funds", "a-drop")
    mira = person("manager").open(f"{GROUPS}a-drop/")
    mira.click("#drop-group").sees("Drop 7 letters?")
    mira.write("#id_reason", "customers were told").click("#drop-now")
    mira.sees("Dropped 7 letters.")
    letters = DeadLetter.objects.filter(fingerprint="a-drop")
    assert {(each.resolution, each.resolved_by, each.resolved_reason) for each in letters} == {
        ("DROPPED", "manager", "customers were told")
    }


def test_a_queue_is_paused_and_resumed(person: Come) -> None:
    mira = person("operator").open("/admin/")
    mira.click("[data-queue=low] .queue-note a").sees("Pause low?")
    mira.write("#id_reason", "partner maintenance").press("Pause")
    mira.sees("Paused by operator: partner maintenance", css="[data-queue=low]")
    mira.sees("low: paused", css="#status")
    job = submit("flaky", {"failures": 0}, queue="low")
    mira.open(page_of(job)).sees("Queue 'low' was paused by operator: partner maintenance", css="#why")
    mira.open("/admin/jobs/queue/").press("Resume").press("Resume")
    mira.waits(lambda: not Queue.objects.get(pk="low").is_paused, "the queue to be resumed")
    mira.waits(lambda: Job.objects.get(pk=job.pk).state == "SUCCESS", "the waiting job to run")


def test_the_submit_form_says_what_is_wrong_and_then_submits(person: Come) -> None:
    mira = person("operator").open("/admin/jobs/job/")
    mira.press("Submit a job").press("process_payment")
    mira.write("#id_payload-user_id", "usr_7").write("#id_payload-amount", "12.50").write(
        "#id_payload-currency", "euro"
    )
    mira.press("Submit job").sees("String should match pattern")
    assert not Job.objects.filter(task="process_payment").exists()
    mira.write("#id_payload-currency", "EUR").press("Submit job").sees("Submitted.")
    job: Any = Job.objects.get(task="process_payment")
    assert job.payload == {"user_id": "usr_7", "amount": 12.5, "currency": "EUR"}
    mira.sees("submitted by hand by operator")
