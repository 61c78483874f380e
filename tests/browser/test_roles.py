"""What each role sees, and that no button it sees would refuse."""

from collections.abc import Callable

import pytest
from django_celery_beat.models import PeriodicTask

from deadletters.models import DeadLetter, ReplayOperation
from jobs.models import Job
from jobs.submission import submit
from tests.browser.failed import make_failed
from tests.browser.pages import GROUPS, change, make_rows
from tests.browser.person import Person

Come = Callable[..., Person]
# What anybody may press who may look.
LOOKING = {"Search", "CSV", "Copy", "History"}
SHOWN = """
const pressed = "main button, main .button, main input[type=submit], main .object-tools a, main .queue-note a";
return [...document.querySelectorAll(pressed)]
  .filter((each) => each.checkVisibility()).map((each) => each.innerText.trim() || each.value);
"""


def pages() -> dict[str, str]:
    """Every page with something to press, by what it is about."""
    make_rows()
    if not DeadLetter.objects.filter(fingerprint="a-role").exists():
        make_failed(2, "TypeError: not a number", "a-role")
    letters = "/admin/deadletters/deadletter/"
    return {
        "overview": "/admin/",
        "jobs": "/admin/jobs/job/?q=tag:vip",
        "job": change(Job.objects.get(tags=["vip"])),
        "queues": "/admin/jobs/queue/",
        "workers": "/admin/jobs/worker/",
        "letters": f"{letters}?resolution=OPEN&fingerprint=a-role",
        "letter": change(DeadLetter.objects.filter(fingerprint="a-role")[0]),
        "group": f"{GROUPS}a-role/",
        "replay": change(ReplayOperation.objects.get(state="PAUSED", reason="look")),
        "schedules": "/admin/django_celery_beat/periodictask/",
        "schedule": change(PeriodicTask.objects.get(name="a schedule")),
        "tokens": "/admin/api/apitoken/",
    }


OPERATED = {
    "overview": {"Pause…"},
    "jobs": {"Submit a job", "Cancel…", "Retry now…", "Reinstate…"},
    "job": {"Cancel…", "Retry now…"},
    "queues": {"Pause…", "Resume…"},
    "workers": {"Grow…", "Shrink…", "Shut down…"},
    "letters": {"Replay…"},
    "letter": {"Replay…", "Preview changes", "Replay with this payload"},
    "group": {"Replay 2 jobs", "Preview"},
    "replay": {"Resume replay", "Abort…"},
    "schedules": {"Run now"},
    "schedule": {"Run now"},
    "tokens": set(),
}
# Of a manager: what an operator may, and this.
MANAGED = {
    "letters": {"Drop…", "Purge…"},
    "letter": {"Drop…"},
    "group": {"Drop group…"},
    "schedules": {"Add periodic task", "Enable…", "Disable…"},
    "schedule": {"Save", "Save and add another", "Save and continue editing"},
    "tokens": {"Add api token", "Revoke…"},
}
GIVEN = {
    "viewer": {},
    "operator": OPERATED,
    "manager": {name: shown | MANAGED.get(name, set()) for name, shown in OPERATED.items()},
}


@pytest.mark.parametrize("role", GIVEN)
def test_a_role_sees_the_buttons_that_would_work_for_it_and_no_other(person: Come, role: str) -> None:
    person()
    someone = person(role)
    shown = {name: buttons(someone, page) - LOOKING for name, page in pages().items()}
    assert {name: said for name, said in shown.items() if said} == {
        name: said for name, said in GIVEN[role].items() if said
    }


def test_no_address_does_for_a_viewer_what_no_button_offers(person: Come) -> None:
    job = submit("slow", {"seconds": 1}, delay=3600)
    make_failed(2, "TypeError: not a number", "a-viewer")
    viewer = person("viewer")
    act = f"{change(job).removesuffix('change/')}act/cancel/"
    for page in ("/admin/jobs/job/submit/", f"{GROUPS}a-viewer/drop/", act):
        viewer.open(page).sees("403")
    assert Job.objects.get(pk=job.pk).state == "PENDING"


def test_a_viewer_reads_masks_where_a_manager_reads_the_payload(person: Come) -> None:
    job = submit("send_email", {"to": "a@example.com", "subject": "Hi", "body": "the secret"}, delay=3600)
    person("viewer").open(change(job)).sees("••••", css="#payload")
    person("manager").open(change(job)).sees("the secret", css="#payload")


def buttons(someone: Person, page: str) -> set[str]:
    """What can be pressed there, also once a row is ticked."""
    someone.open(page)
    for box in someone.all(".action-select")[:1]:
        box.click()
    return set(someone.run(SHOWN))
