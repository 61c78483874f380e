"""The harness of `dev.py chaos` itself: its plans repeat, and its verdict sees what is wrong."""

from dataclasses import replace

import pytest

from tests.chaos.monkey import ledger
from tests.chaos.monkey.evidence import AttemptRow, Evidence, JobRow, Move, TicketRow
from tests.chaos.monkey.faults import STRIKES
from tests.chaos.monkey.ledger import Deed
from tests.chaos.monkey.plan import ANYTHING, MONKEY, RESTARTS, make_plan
from tests.chaos.monkey.verdict import ATOMIC, effects_twice, judge

RECIPES = [MONKEY, RESTARTS, ANYTHING]


def deed(what: str, job: str, attempt: int = 1, pid: int = 7) -> Deed:
    return Deed(what, job, f"key-{job}", attempt, pid, 0.0)


def good_run() -> Evidence:
    """Three jobs: one that died once and succeeded, one that failed for good, one whose ticket was lost."""
    return Evidence(
        accepted={"k1": "died", "k2": "doomed", "k3": "unlucky"},
        jobs=[
            JobRow("died", "SUCCESS", 2, 0, 1),
            JobRow("doomed", "FAILURE", 1, 0, 0),
            JobRow("unlucky", "SUCCESS", 1, 0, 0, ATOMIC),
        ],
        moves=[
            Move("died", "PENDING", "STARTED"),
            Move("died", "STARTED", "RETRY"),
            Move("died", "RETRY", "STARTED"),
            Move("died", "STARTED", "SUCCESS"),
            Move("doomed", "PENDING", "STARTED"),
            Move("doomed", "STARTED", "FAILURE"),
            Move("unlucky", "PENDING", "STARTED"),
            Move("unlucky", "STARTED", "SUCCESS"),
        ],
        attempts=[AttemptRow("died", 1, "LOST", False), AttemptRow("doomed", 1, "FAILURE", False)],
        tickets=[
            TicketRow("died", "first"),
            TicketRow("died", "again"),
            TicketRow("doomed", "first"),
            TicketRow("unlucky", "first"),
            TicketRow("unlucky", "lost"),
        ],
        proven_losses=["unlucky"],
        letters=["doomed"],
        atomic=["unlucky"],
        deeds=[deed("start", "died"), deed("start", "died", 2), deed("end", "died", 2)],
    )


def broken(evidence: Evidence) -> dict[str, tuple[str, ...]]:
    return {finding.name: finding.broken_by for finding in judge(evidence) if finding.broken_by}


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_same_seed_makes_the_same_plan(recipe) -> None:
    first, second = (make_plan(recipe, seed=7, seconds=180, jobs=500) for _ in range(2))
    assert str(first) == str(second)
    assert first.orders == second.orders


def test_another_seed_makes_another_plan() -> None:
    texts = {str(make_plan(MONKEY, seed=seed, seconds=180, jobs=500)) for seed in range(5)}
    assert len(texts) == 5


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_plan_has_every_job_under_a_key_of_its_own_and_only_faults_that_can_be_done(recipe) -> None:
    plan = make_plan(recipe, seed=3, seconds=120, jobs=300)
    assert len({order.key for order in plan.orders}) == 300
    assert {fault.kind for fault in plan.faults} == set(recipe.streams)
    assert set(recipe.streams) <= set(STRIKES)
    assert [fault.at for fault in plan.faults] == sorted(fault.at for fault in plan.faults)
    assert all(0 <= order.at <= 120 for order in plan.orders)


def test_a_good_run_breaks_nothing() -> None:
    assert broken(good_run()) == {}


@pytest.mark.parametrize(
    "invariant, planted, culprit",
    [
        ("I1", {"accepted": {"k": "vanished"}}, "vanished"),
        ("I1", {"jobs": [JobRow("stuck", "RETRY", 0, 0, 0)], "accepted": {"k": "stuck"}}, "stuck"),
        ("I2", {"moves": [Move("died", "STARTED", "SUCCESS")] * 2}, "died"),
        ("I3", {"moves": [Move("died", "SUCCESS", "PENDING")]}, "died"),
        ("I3", {"touched": ["unlucky"]}, "unlucky"),
        ("I4", {"attempts": [AttemptRow("doomed", 1, "FAILURE", False)]}, "died"),
        ("I5", {"deeds": [deed("start", "died"), deed("start", "died", pid=8)]}, "died attempt 1"),
        ("I6", {"strays": ["died"]}, "died"),
        ("I7", {"proven_losses": []}, "unlucky"),
        ("I7", {"tickets": [TicketRow("unlucky", "first"), *[TicketRow("unlucky", "lost")] * 2]}, "unlucky"),
        ("I8", {"letters": []}, "doomed"),
        ("atomic", {"atomic": ["unlucky", "unlucky"]}, "unlucky"),
        ("atomic", {"atomic": ["doomed"]}, "doomed"),
        ("atomic", {"atomic": []}, "unlucky"),
    ],
)
def test_the_verdict_names_what_is_broken(invariant, planted, culprit) -> None:
    assert culprit in broken(replace(good_run(), **planted))[invariant]


def test_a_replayed_job_may_leave_its_final_state_once() -> None:
    evidence = replace(good_run(), moves=[Move("doomed", "FAILURE", "PENDING")], revived=["doomed"])
    assert "I3" not in broken(evidence)
    evidence.moves *= 2
    assert broken(evidence)["I3"] == ("doomed",)


def test_an_effect_that_happened_twice_is_counted() -> None:
    assert effects_twice(replace(good_run(), deeds=[deed("effect", "died"), deed("effect", "died", 2)])) == ["died"]


def test_the_ledger_tells_which_processes_are_in_the_middle_of_a_body(tmp_path, monkeypatch) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger.create(path)
    monkeypatch.setenv(ledger.PLACE, str(path))
    monkeypatch.setattr(ledger, "_open", {})
    ledger.record(ledger.START, "j", key="k", attempt=1)
    deeds = ledger.read(path)
    assert ledger.busy_pids(deeds) == [deeds[0].pid]
    ledger.record(ledger.END, "j", key="k", attempt=1)
    assert ledger.busy_pids(ledger.read(path)) == []
