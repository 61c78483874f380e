"""What lists and pages say about a job in a few characters."""

from typing import Any

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from api.readfirst import duration
from jobs.models import Job
from jobs.states import WAITING, State

HINT_LENGTH = 160


def lamp(job: Job) -> SafeString:
    return format_html('<span class="state state-{}">{}</span>', job.state.lower(), job.get_state_display())


def hint(job: Any) -> str | SafeString:
    """The error of a job that has one, else its payload in short."""
    if job.error and job.state in (State.FAILURE, State.RETRY):
        return format_html('<span class="hint err">{}</span>', job.error.strip().splitlines()[0][:HINT_LENGTH])
    shown = getattr(job, "hint", "")
    return format_html('<span class="hint">{}</span>', shown) if shown else ""


def tries(job: Job) -> str:
    """Tries since the job was submitted or replayed, of those it has; deaths are counted apart."""
    begun = job.retries if job.state in WAITING or not job.attempt else job.retries + 1
    died = f", died {job.deaths} of {job.max_deaths} times" if job.deaths else ""
    return f"{begun} / {job.max_retries + 1}{died}"


def waited(job: Job) -> str:
    if job.state in WAITING:
        passed = timezone.now() - job.run_at
        return duration(passed) if passed.total_seconds() > 0 else f"due in {duration(-passed)}"
    if job.started_at is None or job.started_at < job.run_at:
        return ""
    return duration(job.started_at - job.run_at)


def ran(job: Job) -> str | SafeString:
    # A revoked job may have waited between its last run and its end.
    if job.started_at is None or job.state in (*WAITING, State.REVOKED):
        return ""
    lasted = duration((job.finished_at or timezone.now()) - job.started_at)
    done = share(job.progress) if job.state == State.STARTED else None
    if done is None:
        return lasted
    return format_html('<progress max="100" value="{}" aria-label="Progress"></progress>{}', done, lasted)


def share(progress: Any) -> int | None:
    """Percent, of a progress that counts to a known total."""
    if not isinstance(progress, dict) or not progress.get("total"):
        return None
    return min(100, round(100 * (progress.get("done") or 0) / progress["total"]))
