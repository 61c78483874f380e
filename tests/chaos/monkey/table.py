"""The verdict as text: one table for either system, so that two runs of one plan can be laid side by side."""

from collections import Counter

from tests.chaos.monkey import ledger
from tests.chaos.monkey.evidence import Evidence
from tests.chaos.monkey.run import Run
from tests.chaos.monkey.verdict import (
    FINAL,
    effects_twice,
    extra_tickets,
    not_exactly_once,
    not_final,
    recorded_twice,
    started_twice,
)

Row = tuple[str, object]


def rows_of(run: Run, *, recorded: bool) -> list[Row]:
    """The figures of a run. `recorded`: the system has rows that tell its own story, not only the ledger."""
    evidence = run.evidence
    return [
        ("submitted", len(evidence.accepted)),
        ("refused at submit, tried again", run.refusals),
        ("slowest accepted submit, s", f"{run.slowest_submit:.2f}"),
        *(_recorded(evidence) if recorded else _deduced(evidence)),
        ("run to the end more than once", _more_than_once(evidence.jobs_that(ledger.END))),
        ("outside effects twice (once jobs)", len(effects_twice(evidence))),
        ("database effects twice (atomic jobs)", _more_than_once(evidence.atomic)),
        ("bodies started", len(evidence.jobs_that(ledger.START))),
        *(_bookkeeping(evidence) if recorded else []),
        ("messages destroyed by the monkey", run.monkey.destroyed),
        ("messages left in Redis at the end", run.left_in_redis),
        ("processes started again", run.restarts),
        ("faults done, skipped", f"{len(run.monkey.done) - run.monkey.skipped}, {run.monkey.skipped}"),
        ("at rest after the last fault, s", f"{run.settled_in:.1f}"),
    ]


def as_text(rows: list[Row]) -> str:
    widest = max(len(label) for label, _ in rows)
    return "\n".join(f"  {label:<{widest}}  {value!s:>8}" for label, value in rows)


def _recorded(evidence: Evidence) -> list[Row]:
    states = Counter(job.state for job in evidence.jobs)
    mine = set(evidence.accepted.values())
    final = sum(job.state in FINAL for job in evidence.jobs if job.job in mine)
    return [
        ("final", final),
        ("lost", len(mine & set(not_final(evidence)))),
        ("recorded twice", len(recorded_twice(evidence))),
        ("by beat, beside the submitted", len(evidence.jobs) - len(mine)),
        ("SUCCESS, FAILURE, REVOKED", f"{states['SUCCESS']}, {states['FAILURE']}, {states['REVOKED']}"),
    ]


def _deduced(evidence: Evidence) -> list[Row]:
    """Without rows, a job counts as final when its body ran to its end once: the kindest reading."""
    ended = set(evidence.jobs_that(ledger.END))
    mine = set(evidence.accepted.values())
    return [("final", len(mine & ended)), ("lost", len(mine - ended))]


def _bookkeeping(evidence: Evidence) -> list[Row]:
    outcomes = Counter(row.outcome for row in evidence.attempts)
    return [
        ("attempts", sum(job.attempt for job in evidence.jobs)),
        ("deaths", outcomes["LOST"]),
        ("released", outcomes["RELEASED"]),
        ("fenced", sum(row.fenced for row in evidence.attempts)),
        ("bodies started twice in one attempt", len(started_twice(evidence))),
        ("tickets issued", sum(row.why != "given back" for row in evidence.tickets)),
        ("tickets issued again after a loss", len(evidence.proven_losses)),
        ("extra tickets", len(extra_tickets(evidence))),
        ("duplicates dropped", len(evidence.jobs_that(ledger.DROPPED))),
        ("atomic rows not exactly once", len(not_exactly_once(evidence))),
    ]


def _more_than_once(jobs: list[str]) -> int:
    return sum(count > 1 for count in Counter(jobs).values())
