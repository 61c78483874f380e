"""One table of legal moves, and the database agrees with it."""

from pathlib import Path

import pytest
from django.db import DatabaseError

from jobs.models import Job
from jobs.states import FINAL, TRANSITIONS, State, diagram, sources
from tests.making import force_state, make_job, make_worker


@pytest.mark.django_db
@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("after", State)
def test_the_trigger_refuses_exactly_the_moves_the_table_does_not_name(before: State, after: State) -> None:
    job = make_job()
    worker = make_worker()
    held = {"worker_id": worker.pk, "claim_token": worker.pk, "started_at": job.created_at}
    force_state(job, before, finished_at=job.created_at if before in FINAL else None, **held)
    values = {"state": after, "finished_at": job.created_at if after in FINAL else None}
    values["attempt"] = job.attempt + (after == State.STARTED and before != after)
    if after == before or after in TRANSITIONS[before]:
        assert Job.objects.filter(pk=job.pk).update(**values) == 1
    else:
        with pytest.raises(DatabaseError, match="may not move"):
            Job.objects.filter(pk=job.pk).update(**values)


@pytest.mark.django_db
def test_the_attempt_number_rises_by_one_and_only_at_a_claim() -> None:
    job = make_job()
    with pytest.raises(DatabaseError, match="attempt may only rise"):
        Job.objects.filter(pk=job.pk).update(state="REVOKED", finished_at=job.created_at, attempt=1)


@pytest.mark.django_db
@pytest.mark.parametrize("target", State)
def test_move_goes_only_where_the_table_allows(target: State) -> None:
    for before in State:
        job = make_job()
        held = {"worker_id": job.pk, "claim_token": job.pk, "started_at": job.created_at}
        force_state(job, before, finished_at=job.created_at if before in FINAL else None, **held)
        if target == State.STARTED:
            continue
        extra = {} if target in FINAL else {"finished_at": None}
        assert Job.objects.filter(pk=job.pk).move(target, **extra) == (before in sources(target))


def test_the_diagram_in_the_docs_is_the_table() -> None:
    text = Path(__file__).parents[2].joinpath("docs/states.md").read_text()
    assert diagram() in text


def test_success_is_final_and_only_a_replay_or_reinstatement_leaves_the_other_ends() -> None:
    assert TRANSITIONS[State.SUCCESS] == {}
    assert set(TRANSITIONS[State.FAILURE]) == set(TRANSITIONS[State.REVOKED]) == {State.PENDING}
