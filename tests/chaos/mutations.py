"""Scenario 44: take each guard out of a copy of the project and see the tests named here fail.

`python3 dev.py chaos --scenario mutations`. The checkout itself is never touched.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from local.place import CHECKOUT

LEFT_OUT = shutil.ignore_patterns(".venv", ".git", ".data", "__pycache__", ".*_cache", ".hypothesis")
PATIENCE = 600
GUARDS = "tests/chaos/test_guards.py::"
LETTERS = "tests/jobs/test_letters.py::"
LOST = "tests/chaos/test_lost_tickets.py::"
MEMORY = "tests/chaos/test_memory.py::"
SETTLING = "tests/jobs/test_settlement.py::"


@dataclass(frozen=True)
class Mutation:
    """A guard, how it is taken out of one file (pairs of text), and the tests that must notice."""

    guard: str
    path: str
    changes: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "the fencing number in a settlement",
        "jobs/querysets.py",
        ((" AND job.attempt = done.attempt", ""), ("AND job.attempt = %(attempt)s AND", "AND")),
        (f"{GUARDS}test_the_right_token_with_another_attempt_settles_nothing",),
    ),
    Mutation(
        "the claim token in a settlement",
        "jobs/querysets.py",
        ((" AND job.claim_token = done.token", ""), ("%(attempt)s AND job.claim_token = %(token)s", "%(attempt)s")),
        (
            f"{GUARDS}test_the_right_attempt_with_another_token_settles_nothing",
            f"{SETTLING}test_a_late_worker_with_the_right_attempt_but_another_token_is_fenced",
        ),
    ),
    Mutation(
        "fencing number and token together: a zombie settles (scenarios 28 and 30)",
        "jobs/querysets.py",
        (
            (" AND job.attempt = done.attempt AND job.claim_token = done.token", ""),
            ("AND job.attempt = %(attempt)s AND job.claim_token = %(token)s\n", "\n"),
        ),
        (
            f"{SETTLING}test_a_late_worker_cannot_settle_a_job_that_was_claimed_again",
            "tests/chaos/test_zombies.py::test_frozen_workers_lose_their_jobs_and_what_they_bring_back_is_fenced",
        ),
    ),
    Mutation(
        "the unbroken view before a worker is judged by its silence (scenarios 15 and 16)",
        "jobs/rescue.py",
        (("return time.monotonic() - self._unbroken_since >= settings.LEASE_SECONDS", "return True"),),
        (
            f"{GUARDS}test_a_dispatcher_that_has_just_come_to_see_the_database_judges_nobody_by_silence",
            f"{GUARDS}test_a_stall_of_the_dispatcher_itself_starts_its_view_again",
            "tests/stories/test_outages.py::test_postgresql_is_away_for_longer_than_the_lease_while_jobs_finish",
        ),
    ),
    Mutation(
        "the proof that a ticket is lost: reading the queue (scenario 39)",
        "jobs/losses.py",
        ((" if str(job) not in present}", "}"),),
        (
            f"{GUARDS}test_a_ticket_that_waits_in_its_queue_is_never_issued_again",
            f"{LOST}test_exactly_the_tickets_that_were_deleted_are_issued_again",
        ),
    ),
    Mutation(
        "the second look, one grace later",
        "jobs/losses.py",
        (("_reissue(_still_absent(suspicion.absent, _absent(queue)))", "_reissue(_absent(queue))"),),
        (
            # Whether steady traffic needs it (scenario 46) is a matter of milliseconds: it would fail most times only.
            f"{GUARDS}test_a_ticket_seen_to_be_absent_only_once_is_not_lost_yet",
        ),
    ),
    Mutation(
        "the state in a claim",
        "jobs/querysets.py",
        ((" AND job.state IN ('PENDING', 'RETRY')\n     AND {_MAY_START.format(", "\n     AND {_MAY_START.format("),),
        (
            f"{GUARDS}test_a_claimed_job_cannot_be_claimed_again",
            f"{LOST}test_a_ticket_that_comes_six_times_starts_its_job_once",
        ),
    ),
    Mutation(
        "the letter inside the settling transaction",
        "jobs/settlement.py",
        (("if not any(answer for _, answer in answers):", "if False:"),),
        (f"{SETTLING}test_without_a_letter_there_is_no_failure",),
    ),
    Mutation(
        "the one transaction around a FAILURE and its letter",
        "jobs/settlement.py",
        (("with transaction.atomic():\n            return _write(", "if True:\n            return _write("),),
        (f"{LETTERS}test_a_process_that_is_killed_or_cut_off_at_any_statement_leaves_failure_and_letter_or_neither",),
    ),
    Mutation(
        "the end of a process that ran out of memory around a body",
        "jobs/task.py",
        (("        os._exit(EXIT_OUT_OF_HAND)", "        raise error"),),
        (f"{MEMORY}test_a_memory_error_around_a_body_ends_its_process_and_not_the_worker",),
    ),
    Mutation(
        "the parent's answer to a MemoryError of Celery's own code",
        "jobs/request.py",
        (("isinstance(error, (Terminated, MemoryError))", "isinstance(error, Terminated)"),),
        (f"{MEMORY}test_a_memory_error_in_celerys_own_code_gives_the_ticket_back",),
    ),
)  # fmt: skip


def main() -> int:
    """Non-zero when a guard can be taken out and a test that is named for it does not notice."""
    every = tuple(dict.fromkeys(test for mutation in MUTATIONS for test in mutation.tests))
    with _copy() as copy:
        unfit = _unsuccessful(copy, every)
    for test, how in unfit.items():
        print(f"{how} with every guard in place, so it proves nothing: {test}")
    missed = [mutation for mutation in MUTATIONS if not _is_noticed(mutation)]
    print(f"{len(MUTATIONS) - len(missed)} of {len(MUTATIONS)} guards are held by the tests named for them")
    return 1 if missed or unfit else 0


def mutated(text: str, mutation: Mutation) -> str:
    """Raises LookupError when the text to take out is not there: the guard has moved, and its mutation must follow."""
    for before, after in mutation.changes:
        if before not in text:
            raise LookupError(f"{mutation.path} does not contain {before!r}, which is taken out for: {mutation.guard}")
        text = text.replace(before, after)
    return text


def _is_noticed(mutation: Mutation) -> bool:
    with _copy() as copy:
        place = copy / mutation.path
        place.write_text(mutated(place.read_text(), mutation))
        found = _unsuccessful(copy, mutation.tests)
    # An ERROR is trouble with the fleet of processes, not a test that noticed.
    noticed = [found.get(test) == "FAILED" for test in mutation.tests]
    print(f"{'noticed' if all(noticed) else 'MISSED '}  without {mutation.guard}")
    print(*(f"         {found.get(test, 'passed'):<7} {test}" for test in mutation.tests), sep="\n")
    return all(noticed)


def _unsuccessful(copy: Path, tests: tuple[str, ...]) -> dict[str, str]:
    """FAILED or ERROR by test, for those that did not pass in the copy; with parameters, when any of them did not."""
    command = [sys.executable, "-m", "local.testing", *tests, "-q", "-rfE", "--no-header", "-p", "no:cacheprovider"]
    run = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if not re.search(r"\d+ (passed|failed|error)", run.stdout):
        raise RuntimeError(f"no test ran in {copy}:\n{run.stdout[-2000:]}\n{run.stderr[-2000:]}")
    found = re.findall(r"^(FAILED|ERROR) ([^\s\[]+)", run.stdout, flags=re.MULTILINE)
    # FAILED sorts last and counts: the fleet of a test that failed may end with an ERROR as well.
    return {test: how for how, test in sorted(found)}


@contextmanager
def _copy() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="switchyard-mutation-"))
    directory.chmod(0o711)
    try:
        shutil.copytree(CHECKOUT, directory / "project", ignore=LEFT_OUT)
        yield directory / "project"
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
