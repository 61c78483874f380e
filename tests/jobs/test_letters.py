"""No FAILURE without its letter and no letter open twice, wherever processes are killed or cut off from PostgreSQL."""

import os
import signal
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
import pytest
from celery import shared_task
from django.conf import settings as django_settings
from django.db import Error as DjangoError
from django.db import connection
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from deadletters import retention as letters_retention
from deadletters.drop import drop, drop_all
from deadletters.models import DeadLetter
from deadletters.purge import purge
from deadletters.replay import replay
from jobs import rescue, retention
from jobs.cancellation import cancel, reinstate
from jobs.diagnosis import plain
from jobs.errors import Abandon, Conflict
from jobs.execution import execute
from jobs.models import IdempotencyKey, Job
from jobs.outcomes import TimedOut
from jobs.settlement import settle
from jobs.submission import submit
from jobs.task import JobTask
from tests.fleet import database_url

LINES = 3
# The most that an act here takes, with its COMMITs; a settlement takes five.
STATEMENTS = 20
WORKED, SPOILT, STRUCK = 0, 1, 2
UNHURT, KILLED, CUT_OFF = "unhurt", "killed", "cut off"
BROKEN = """
SELECT job.id, rule FROM jobs_job AS job
  CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE resolution IS NULL) AS open,
           count(*) FILTER (WHERE attempt = job.attempt AND resolution IS DISTINCT FROM 'REPLAYED') AS own
      FROM deadletters_deadletter AS letter WHERE letter.job_id = job.id) AS letters
  CROSS JOIN LATERAL (VALUES
    ('a FAILURE has the letter of its last attempt, and one', job.state <> 'FAILURE' OR letters.own = 1),
    ('no job has two open letters', letters.open <= 1),
    ('an open letter is about a FAILURE', letters.open = 0 OR job.state = 'FAILURE')
  ) AS rules(rule, holds)
 WHERE NOT holds
"""
fate = {"raises": ""}


@dataclass(frozen=True)
class Accident:
    """What befalls a process before or after its n-th statement or COMMIT, or (n = 0) after some milliseconds."""

    how: str = UNHURT
    n: int = 1
    after: bool = False
    milliseconds: float = 0


@shared_task(base=JobTask, name="letter_fate", bind=True)
def body(self: JobTask) -> Any:
    """End as the test says."""
    if fate["raises"] == "gives up":
        raise Abandon("never")
    if fate["raises"] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if fate["raises"] == "error":
        raise ConnectionError
    return object() if fate["raises"] == "not storable" else "done"


def attempt(job: Job, accident: Accident, ends: str, *, max_retries: int = 1, max_deaths: int = 2) -> bool:
    """A process claims, runs and settles. This, as all that follow, says whether the accident happened."""
    Job.objects.filter(pk=job.pk).retry_now()
    Job.objects.filter(pk=job.pk).update(max_retries=max_retries, max_deaths=max_deaths)
    fate["raises"] = ends
    return in_a_process(lambda: execute(body, job.pk), accident)


def found_dead(job: Job, accident: Accident) -> bool:
    """Another process finds that of an attempt gone, and records its death."""
    held = rescue.held_by_me([job.pk]).values()
    return any(in_a_process(partial(rescue.record_death, each, "WORKER_LOST", "Gone."), accident) for each in held)


def out_of_time(job: Job, accident: Accident) -> bool:
    held = rescue.held_by_me([job.pk]).values()
    return any(in_a_process(partial(settle, each, TimedOut(plain("TIME_LIMIT", ""))), accident) for each in held)


def operator(job: Job, accident: Accident, act: str) -> bool:
    """Whatever a person may do, possible or not."""
    letters = DeadLetter.objects.filter(job=job)
    latest = letters.order_by("-pk").first()
    acts: dict[str, Callable[[], Any]] = {
        "replay": lambda: latest and replay(latest, actor="tester", reason="again"),
        "drop": lambda: latest and drop(latest, actor="tester", reason="enough"),
        "drop all": lambda: drop_all(DeadLetter.objects.all()[:10], actor="tester", reason="enough"),
        "purge": lambda: purge(list(letters), actor="tester"),
        "cancel": lambda: cancel(job.pk, actor="tester"),
        "reinstate": lambda: reinstate(job.pk, actor="tester"),
    }
    return in_a_process(acts[act], accident)


def night(job: Job, accident: Accident) -> bool:
    """Everything that is over is old enough for retention, its keys as well."""
    IdempotencyKey.objects.update(expires_at="2020-01-01T00:00Z")

    def forget() -> None:
        django_settings.RETENTION_DAYS = 0
        retention.retire(dry_run=False)
        letters_retention.retire(dry_run=False)

    return in_a_process(forget, accident)


def in_a_process(work: Callable[[], Any], accident: Accident) -> bool:
    """Do it in a process of its own, which may meet an accident; only those of our making are excused."""
    pid = os.fork()
    if not pid:
        os._exit(_what_became_of(work, accident))
    how = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert how in (WORKED, STRUCK, -signal.SIGKILL)
    return how != WORKED


def _what_became_of(work: Callable[[], Any], accident: Accident) -> int:
    # The parent's session must not be closed from here; psycopg leaves it alone in another process.
    connection.connection = None
    left = [accident.n]
    try:
        _await(accident, left)
        with suppress(Conflict):
            work()
    except (psycopg.Error, DjangoError):
        return STRUCK if accident.how == CUT_OFF else _told()
    except BaseException:
        return _told()
    return WORKED if left[0] > 0 or accident.how == UNHURT else STRUCK


def _told() -> int:
    traceback.print_exc()
    return SPOILT


def _await(accident: Accident, left: list[int]) -> None:
    """Have the accident happen at its moment; `left` counts the statements until then."""
    if accident.how == UNHURT:
        return
    if accident.how == KILLED and not accident.n:
        threading.Timer(accident.milliseconds / 1000, os.kill, [os.getpid(), signal.SIGKILL]).start()
        return
    for owner, name in ((psycopg.Cursor, "execute"), (psycopg.Connection, "commit")):
        setattr(owner, name, _with_accident(getattr(owner, name), accident, left))


def _with_accident(real: Callable[..., Any], accident: Accident, left: list[int]) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        strikes = left[0] == 0
        if strikes and not accident.after:
            _strike(self, accident)
        answer = real(self, *args, **kwargs)
        if strikes and accident.after:
            _strike(self, accident)
        return answer

    return call


def _strike(victim: Any, accident: Accident) -> None:
    if accident.how == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    backend = getattr(victim, "connection", victim).info.backend_pid
    with psycopg.connect(database_url(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])


EVERY_PLACE = [
    Accident(how, n, after) for how in (KILLED, CUT_OFF) for n in range(1, STATEMENTS + 1) for after in (False, True)
]


def at_every_place(befalls: Callable[[Accident], bool]) -> None:
    """One accident after the other, each a statement later, until the process is through before it happens."""
    for how in (KILLED, CUT_OFF):
        for after in (False, True):
            n = 1
            while befalls(Accident(how, n, after)):
                n += 1
            assert 1 < n <= STATEMENTS + 1


def fail_by_itself(job: Job, accident: Accident, ends: str) -> bool:
    return attempt(job, accident, ends, max_retries=0)


def fail_by_death(job: Job, accident: Accident) -> bool:
    attempt(job, Accident(), "dies", max_deaths=1)
    return found_dead(job, accident)


def fail_by_the_clock(job: Job, accident: Accident) -> bool:
    attempt(job, Accident(), "dies", max_retries=0)
    return out_of_time(job, accident)


WAYS_TO_FAIL: dict[str, Callable[[Job, Accident], bool]] = {
    "gives up": partial(fail_by_itself, ends="gives up"),
    "not storable": partial(fail_by_itself, ends="not storable"),
    "out of retries": partial(fail_by_itself, ends="error"),
    "poison": fail_by_death,
    "out of time": fail_by_the_clock,
}
accidents = st.one_of(
    st.just(Accident()),
    st.sampled_from(EVERY_PLACE),
    st.builds(Accident, st.just(KILLED), st.just(0), st.just(False), st.floats(0, 15)),
)
steps = st.one_of(
    st.tuples(st.just(attempt), accidents, st.sampled_from(["error", "error", "gives up", "not storable", "dies", ""])),
    st.tuples(st.just(found_dead), accidents),
    st.tuples(st.just(out_of_time), accidents),
    st.tuples(
        st.just(operator),
        accidents,
        st.sampled_from(["replay", "replay", "drop", "drop all", "purge", "cancel", "reinstate"]),
    ),
    st.tuples(st.just(night), accidents),
)


@pytest.mark.usefixtures("at_work")
@pytest.mark.parametrize("way", WAYS_TO_FAIL)
def test_a_process_that_is_killed_or_cut_off_at_any_statement_leaves_failure_and_letter_or_neither(way: str) -> None:
    ends = set()

    def befalls(accident: Accident) -> bool:
        job = submit("letter_fate", {})
        happened = WAYS_TO_FAIL[way](job, accident)
        assert broken() == [], accident
        if happened:
            ends.add(Job.objects.get(pk=job.pk).state)
        bring_to_an_end(job)
        assert broken() == [], accident
        return happened

    at_every_place(befalls)
    assert {"STARTED", "FAILURE"} <= ends, "some of the accidents came before the settlement, some after it"


@pytest.mark.usefixtures("at_work")
@pytest.mark.parametrize("act", ["replay", "drop", "drop all", "purge", "night"])
def test_an_act_that_is_killed_or_cut_off_at_any_statement_is_done_or_not_begun(act: str) -> None:
    after = set()

    def befalls(accident: Accident) -> bool:
        Job.objects.all().delete()
        job = submit("letter_fate", {})
        attempt(job, Accident(), "gives up", max_retries=0)
        if act in ("night", "purge"):
            operator(job, Accident(), "drop")
        happened = night(job, accident) if act == "night" else operator(job, accident, act)
        assert broken() == [], accident
        if happened:
            after.add(found())
        return happened

    def found() -> tuple[Any, ...]:
        return tuple(Job.objects.values_list("state", "letters__resolution"))

    at_every_place(befalls)
    assert len(after) == 2, after


@pytest.mark.usefixtures("at_work")
@given(history=st.lists(st.tuples(st.integers(0, LINES - 1), steps), min_size=8, max_size=20))
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_failure_is_without_its_letter_whatever_is_killed_replayed_dropped_and_forgotten(history: list[Any]) -> None:
    Job.objects.all().delete()
    jobs = [submit_one(number) for number in range(LINES)]
    for number, (step, accident, *arguments) in history:
        if not Job.objects.filter(pk=jobs[number].pk).exists():
            jobs[number] = submit_one(number)
        note(f"{number} {Job.objects.get(pk=jobs[number].pk).state}: {step.__name__} {arguments} {accident}")
        step(jobs[number], accident, *arguments)
        assert broken() == []
    for job in Job.objects.all():
        bring_to_an_end(job)
    assert broken() == []
    assert not Job.objects.exclude(state__in=["SUCCESS", "REVOKED", "FAILURE"]).exists()


def submit_one(number: int) -> Job:
    """Jobs with and without a key, which retention treats differently."""
    return submit("letter_fate", {}, key=None if number else os.urandom(8).hex())


def bring_to_an_end(job: Job) -> None:
    found_dead(job, Accident())
    attempt(job, Accident(), "")


def broken() -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(BROKEN)
        return cursor.fetchall()
