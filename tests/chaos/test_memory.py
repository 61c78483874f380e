"""Memory that runs out in a body, around it, or for the kernel: the worker goes on and no job is lost."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from deadletters.models import DeadLetter
from jobs.bulk import submit_many
from jobs.drafting import draft
from jobs.models import Job
from jobs.submission import submit
from jobs.task import EXIT_OUT_OF_HAND
from tests.chaos import exhaustion
from tests.chaos.exhaustion import AFTER_CLAIM, AFTER_SETTLING, BEFORE_CLAIM, BEFORE_SETTLING, MEGABYTE
from tests.fleet import Fleet
from tests.waiting import eventually, settled

TASKS = exhaustion.__name__
CONTROL_GROUPS = Path("/sys/fs/cgroup")
LIMIT = 64 * MEGABYTE
# What becomes of the job: its attempts, its deaths, and the tickets issued for it.
PLACES = {BEFORE_CLAIM: (1, 0, 2), AFTER_CLAIM: (2, 1, 2), BEFORE_SETTLING: (2, 1, 2), AFTER_SETTLING: (1, 0, 1)}


@pytest.fixture(scope="module", autouse=True)
def submitted(crew: Fleet) -> Iterator[dict[str, Job]]:
    """Every scenario at once; all of them finish while the first one is looked at."""
    crew.environment["TRAPS"] = "memory"
    crew.worker("w", size=4, include=TASKS)
    jobs = {place: submit("chaos_short", {"place": place}) for place in PLACES}
    jobs |= {kind: submit("chaos_short", {"place": BEFORE_SETTLING, "kind": kind}) for kind in exhaustion.KINDS}
    jobs |= {
        "a bug in a batch": submit("chaos_short_batch", {"place": BEFORE_SETTLING, "kind": "a bug", "times": 99}),
        "a bug": submit("chaos_short", {"place": BEFORE_SETTLING, "kind": "a bug", "times": 99}),
        "always": submit("chaos_short", {"place": BEFORE_SETTLING, "times": 99}),
        "before": submit("chaos_short_before"),
        "huge": submit("chaos_huge_result", {"megabytes": 300}),
    }
    yield jobs
    assert crew.processes["w"].poll() is None
    assert settled(submit("chaos_short", {"place": ""}), within=15).state == "SUCCESS"


@pytest.fixture
def finished(submitted: dict[str, Job]) -> Callable[[str], Job]:
    return lambda name: settled(submitted[name], within=90)


@pytest.mark.parametrize("place", PLACES)
def test_a_memory_error_around_a_body_ends_its_process_and_not_the_worker(
    finished: Callable[[str], Job], place: str
) -> None:
    job = finished(place)
    assert (job.state, job.attempt, job.deaths, job.dispatch_no) == ("SUCCESS", *PLACES[place])
    assert {(each.outcome, each.exit_code) for each in job.attempts.all()} <= {("LOST", EXIT_OUT_OF_HAND)}


@pytest.mark.parametrize("kind", exhaustion.KINDS)
def test_whatever_is_raised_in_a_settlement_is_a_death_and_the_next_attempt_succeeds(
    finished: Callable[[str], Job], kind: str
) -> None:
    job = finished(kind)
    assert (job.state, job.attempt, job.deaths) == ("SUCCESS", 2, 1)
    lost = job.attempts.get()
    assert (lost.outcome, lost.exit_code) == ("LOST", EXIT_OUT_OF_HAND)


def test_a_job_that_never_can_be_settled_is_poison_in_the_end(finished: Callable[[str], Job]) -> None:
    job = finished("always")
    assert (job.state, job.attempt, job.deaths) == ("FAILURE", 3, 3)
    letter = DeadLetter.objects.get(job=job)
    assert (letter.cause, letter.exit_code) == ("POISON", EXIT_OUT_OF_HAND)


@pytest.mark.parametrize("which", ["a bug", "a bug in a batch"])
def test_a_settlement_that_fails_for_a_bug_is_counted_too_and_ends_in_a_letter(
    finished: Callable[[str], Job], which: str
) -> None:
    job = finished(which)
    assert (job.state, job.attempt, job.deaths) == ("FAILURE", 3, 3)
    # Another job of this page may have ended the same process meanwhile.
    codes = {each.error_code for each in job.attempts.all()}
    assert codes <= {"NOT_SETTLED", "WORKER_LOST"} and "NOT_SETTLED" in codes
    assert DeadLetter.objects.get(job=job).cause == "POISON"


def test_a_memory_error_in_celerys_own_code_gives_the_ticket_back(finished: Callable[[str], Job]) -> None:
    job = finished("before")
    assert (job.state, job.attempt, job.deaths) == ("SUCCESS", 1, 0)
    assert job.dispatch_no > 1


def test_a_memory_error_in_a_batch_costs_its_jobs_an_attempt_and_the_worker_nothing() -> None:
    written = submit_many([draft("chaos_short_batch", {"place": BEFORE_SETTLING}) for _ in range(5)])
    jobs = [settled(Job.objects.get(pk=each.job_id)) for each in written]
    assert {(job.state, job.deaths <= 1, job.retries) for job in jobs} == {("SUCCESS", True, 0)}
    assert sum(job.deaths for job in jobs) >= 1


def test_a_result_of_three_hundred_megabytes_is_a_letter_after_one_run(finished: Callable[[str], Job]) -> None:
    """Scenario 33, the largest."""
    job = finished("huge")
    assert (job.state, job.attempt, job.error_code) == ("FAILURE", 1, "NOT_STORABLE")
    letter = DeadLetter.objects.get(job=job)
    assert letter.cause == "NOT_STORABLE"
    assert f"is {300 * MEGABYTE + 2} bytes as JSON" in letter.reason


@pytest.mark.needs("run as root where /sys/fs/cgroup can be written")
def test_a_process_the_kernel_kills_for_its_memory_is_a_death(little_memory: Path) -> None:
    """Scenario 27, by a control group: once, and at every attempt."""
    once = submit("chaos_hog", {"group": str(little_memory), "megabytes": 512})
    always = submit("chaos_hog", {"group": str(little_memory), "megabytes": 512, "times": 99})
    for job in (once, always):
        settled(job, within=90)
    assert (once.state, once.attempt, once.deaths, once.attempts.get().signal) == ("SUCCESS", 2, 1, 9)
    assert (always.state, always.deaths) == ("FAILURE", 3)
    letter = DeadLetter.objects.get(job=always)
    assert (letter.cause, letter.signal) == ("POISON", 9)
    assert "oom_kill 4" in _kills(little_memory)


@pytest.fixture
def little_memory() -> Iterator[Path]:
    """A control group with 64 MB, where this account may make one."""
    group = next((group for group in map(_made, _parents()) if group is not None), None)
    if group is None:
        pytest.skip("no control group can be made here")
    yield group
    eventually(lambda: not (group / "cgroup.procs").read_text(), within=30, what="the group to be empty")
    group.rmdir()


def _parents() -> Iterator[Path]:
    """Where groups with a limit of memory can be made: version 1, version 2; below our own group, else at the top."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, own = line.split(":", 2)
        if controllers in ("memory", ""):
            top = CONTROL_GROUPS / controllers
            yield from (place for place in (top / own.lstrip("/"), top) if place.is_dir())


def _made(parent: Path) -> Path | None:
    """A group without swap below `parent`, or None where this account may not make one, limit it and join it."""
    group = parent / f"switchyard-test-{os.getpid()}"
    with suppress(OSError):
        group.mkdir(exist_ok=True)
        settings = {"memory.swappiness": 0, "memory.swap.max": 0, "memory.limit_in_bytes": LIMIT, "memory.max": LIMIT}
        known = [name for name in settings if (group / name).exists()]
        for name in known:
            (group / name).write_text(str(settings[name]))
        joined = subprocess.run(["sh", "-c", f"echo $$ > {group}/cgroup.procs"], capture_output=True, check=False)
        if known and joined.returncode == 0:
            return group
        group.rmdir()
    return None


def _kills(group: Path) -> str:
    """What the kernel has counted; version 1 keeps it in the first file, version 2 in the second."""
    places = (group / "memory.oom_control", group / "memory.events")
    return "".join(place.read_text() for place in places if place.exists())
