"""What a run left behind, read into plain rows: from the audit tables, the job tables and the ledger."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from tests.chaos.monkey import ledger
from tests.chaos.monkey.ledger import Deed

AUDIT = Path(__file__).with_name("audit.sql")


class JobRow(NamedTuple):
    job: str
    state: str
    attempt: int
    retries: int
    deaths: int
    task: str = ""


class Move(NamedTuple):
    job: str
    was: str
    became: str


class AttemptRow(NamedTuple):
    job: str
    number: int
    outcome: str
    fenced: bool


class TicketRow(NamedTuple):
    job: str
    why: str


@dataclass
class Evidence:
    """One run. `accepted` maps the key of every order to the id of its job."""

    accepted: dict[str, str] = field(default_factory=dict)
    jobs: list[JobRow] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    touched: list[str] = field(default_factory=list)
    revived: list[str] = field(default_factory=list)
    attempts: list[AttemptRow] = field(default_factory=list)
    tickets: list[TicketRow] = field(default_factory=list)
    proven_losses: list[str] = field(default_factory=list)
    letters: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    atomic: list[str] = field(default_factory=list)
    deeds: list[Deed] = field(default_factory=list)

    def jobs_that(self, deed: str) -> list[str]:
        """The job of every such deed, repeated as often as it was done."""
        return [each.job for each in self.deeds if each.deed == deed]


_QUERIES: dict[str, tuple[str, Any]] = {
    "jobs": ("SELECT id::text, state, attempt, retries, deaths, task FROM jobs_job", JobRow),
    "moves": ("SELECT job::text, was, became FROM chaos_move ORDER BY at", Move),
    "touched": ("SELECT job::text FROM chaos_touched", None),
    "revived": ("SELECT job_id::text FROM jobs_event WHERE verb IN ('reinstated', 'replayed')", None),
    "attempts": ("SELECT job_id::text, number, outcome, fenced_at IS NOT NULL FROM jobs_attempt", AttemptRow),
    "tickets": ("SELECT job::text, why FROM chaos_ticket", TicketRow),
    "proven_losses": ("SELECT job_id::text FROM jobs_event WHERE verb = 'ticket republished'", None),
    "letters": ("SELECT job_id::text FROM deadletters_deadletter", None),
    "atomic": ("SELECT job FROM chaos_atomic", None),
}
# Jobs still STARTED long after their worker was declared dead, or under no worker at all.
_STRAYS = """
SELECT job.id::text FROM jobs_job AS job LEFT JOIN jobs_worker AS worker ON worker.id = job.worker_id
  LEFT JOIN chaos_grave AS grave ON grave.worker = job.worker_id
 WHERE job.state = 'STARTED' AND (worker.id IS NULL OR worker.state = 'DEAD')
   AND greatest(grave.at, job.started_at) < clock_timestamp() - make_interval(secs => %s)
"""


def install_audit(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(AUDIT.read_bytes())


def read_evidence(url: str, place: Path, accepted: dict[str, str], strays: Iterable[str]) -> Evidence:
    evidence = Evidence(accepted=dict(accepted), strays=sorted(set(strays)), deeds=ledger.read(place))
    with psycopg.connect(url, autocommit=True) as connection:
        for name, (query, row) in _QUERIES.items():
            found = connection.execute(query).fetchall()
            setattr(evidence, name, [row(*each) if row else each[0] for each in found])
    return evidence


def find_strays(connection: psycopg.Connection[Any], *, older_than: float) -> list[str]:
    return [row[0] for row in connection.execute(_STRAYS, [older_than]).fetchall()]
