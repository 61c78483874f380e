"""What the evidence of a run means: the invariants I1 to I8, and the figures of the table."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.chaos.monkey import ledger
from tests.chaos.monkey.evidence import Evidence

ATOMIC = "monkey_atomic"
FINAL = ("SUCCESS", "FAILURE", "REVOKED")
Rule = Callable[[Evidence], list[str]]


@dataclass(frozen=True)
class Finding:
    """One invariant, and the jobs that break it."""

    name: str
    sentence: str
    broken_by: tuple[str, ...]

    def __str__(self) -> str:
        if not self.broken_by:
            return f"{self.name:<6} holds   {self.sentence}"
        return f"{self.name:<6} BROKEN  {self.sentence}: {len(self.broken_by)}, such as {', '.join(self.broken_by[:3])}"


def judge(evidence: Evidence) -> list[Finding]:
    """Every invariant in order; a run is good when none was broken."""
    return [Finding(name, sentence, tuple(rule(evidence))) for name, (sentence, rule) in INVARIANTS.items()]


def not_final(evidence: Evidence) -> list[str]:
    final = {job.job for job in evidence.jobs if job.state in FINAL}
    return sorted({*evidence.accepted.values(), *(job.job for job in evidence.jobs)} - final)


def recorded_twice(evidence: Evidence) -> list[str]:
    return _repeated(move.job for move in evidence.moves if move.became == "SUCCESS")


def changed_after_the_end(evidence: Evidence) -> list[str]:
    """Rows that were final and changed, more often than somebody replayed or reinstated them."""
    left = Counter(move.job for move in evidence.moves if move.was in FINAL)
    touched, revived = Counter(evidence.touched), Counter(evidence.revived)
    return sorted(job for job in left | touched if max(left[job], touched[job]) > revived[job])


def miscounted(evidence: Evidence) -> list[str]:
    """attempt = attempts recorded + one that runs or succeeded; retries and deaths are those recorded."""
    outcomes = Counter((row.job, row.outcome) for row in evidence.attempts)
    recorded = Counter(row.job for row in evidence.attempts)
    revived = set(evidence.revived)
    return [
        job.job
        for job in evidence.jobs
        if job.attempt != recorded[job.job] + (job.state in ("STARTED", "SUCCESS"))
        or (job.job not in revived and job.retries != outcomes[job.job, "RETRY"])
        or (job.job not in revived and job.deaths != outcomes[job.job, "LOST"])
    ]


def started_twice(evidence: Evidence) -> list[str]:
    return _repeated(f"{deed.job} attempt {deed.attempt}" for deed in evidence.deeds if deed.deed == ledger.START)


def extra_tickets(evidence: Evidence) -> list[str]:
    """Tickets beyond those with a reason: the first, an attempt's end, a ticket given back, a proven loss."""
    issued = Counter(row.job for row in evidence.tickets if row.why != "given back")
    reasons = Counter(job.job for job in evidence.jobs)
    reasons += Counter(move.job for move in evidence.moves if move.became in ("RETRY", "PENDING"))
    reasons += Counter(row.job for row in evidence.tickets if row.why == "given back")
    reasons += Counter(evidence.proven_losses)
    unproven = Counter(row.job for row in evidence.tickets if row.why == "lost") - Counter(evidence.proven_losses)
    return sorted(((issued - reasons) | unproven).elements())


def without_letter(evidence: Evidence) -> list[str]:
    letters = set(evidence.letters)
    return sorted(job.job for job in evidence.jobs if job.state == "FAILURE" and job.job not in letters)


def not_exactly_once(evidence: Evidence) -> list[str]:
    """A row written in a job's own transaction is there exactly when the job succeeded, and once."""
    written = Counter(evidence.atomic)
    succeeded = {job.job for job in evidence.jobs if job.state == "SUCCESS"}
    wanted = {job.job for job in evidence.jobs if job.task == ATOMIC and job.state == "SUCCESS"}
    return sorted(job for job in wanted | set(written) if written[job] != 1 or job not in succeeded)


def effects_twice(evidence: Evidence) -> list[str]:
    """Not promised to be none, so no invariant: a process killed between an effect and its record repeats it."""
    return _repeated(evidence.jobs_that(ledger.EFFECT))


INVARIANTS: dict[str, tuple[str, Rule]] = {
    "I1": ("every submitted job reaches a final state", not_final),
    "I2": ("a job moves into SUCCESS at most once", recorded_twice),
    "I3": ("a final row changes only by a recorded replay or reinstatement", changed_after_the_end),
    "I4": ("the counters on the row are what the attempts say", miscounted),
    "I5": ("the body starts at most once per attempt", started_twice),
    "I6": ("no job stays STARTED under a dead worker", lambda evidence: evidence.strays),
    "I7": ("no ticket is issued without a reason", extra_tickets),
    "I8": ("no FAILURE is without a letter", without_letter),
    "atomic": ("an atomic task's own rows are written exactly once", not_exactly_once),
}


def _repeated(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)
