"""Replaying many letters in one transaction, with as many statements as for a few."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from uuid import UUID

from api.tally import Tally
from deadletters.models import DeadLetter
from deadletters.replay import REPLAYED
from jobs.cancellation import had_their_key_taken_over
from jobs.models import Event, Job
from jobs.noting import note
from jobs.policies import policy
from jobs.states import State


def replay_together(letters: Sequence[DeadLetter], *, actor: str, reason: str) -> Tally:
    """What `replay` does, for letters of which each may be refused; inside a transaction of the caller's."""
    # Locked in one order, letters before jobs, as everybody who resolves a letter does.
    wanted = DeadLetter.objects.filter(pk__in=[letter.pk for letter in letters]).order_by("pk")
    found = {letter.pk: letter for letter in wanted.select_for_update()}
    jobs = Job.objects.filter(pk__in=[letter.job_id for letter in found.values()]).order_by("pk")
    states = dict(jobs.select_for_update().values_list("pk", "state"))
    taken = had_their_key_taken_over(states)
    refused = {letter.pk: why for letter in letters if (why := _why_not(found.get(letter.pk), states, taken))}
    chosen = [letter for pk, letter in found.items() if pk not in refused]
    _replay(chosen, actor=actor, reason=reason)
    return Tally([letter.pk for letter in chosen], refused)


def _why_not(letter: DeadLetter | None, states: dict[UUID, str], taken: Collection[UUID]) -> str | None:
    if letter is None:
        return "It no longer exists."
    if not letter.is_open:
        return f"It was {letter.get_resolution_display().lower()} already by {letter.resolved_by}."
    if states.get(letter.job_id) != State.FAILURE:
        return f"Its job is {states.get(letter.job_id)}: only a job that failed for good can be replayed."
    return "Its job's idempotency key belongs to a later job by now." if letter.job_id in taken else None


def _replay(letters: Sequence[DeadLetter], *, actor: str, reason: str) -> None:
    DeadLetter.objects.filter(pk__in=[letter.pk for letter in letters]).resolve(
        DeadLetter.Resolution.REPLAYED, by=actor, reason=reason
    )
    by_task: defaultdict[str, list[UUID]] = defaultdict(list)
    for letter in letters:
        by_task[letter.task].append(letter.job_id)
    for task, ids in by_task.items():
        limits = {"max_retries": policy(task).max_retries, "max_deaths": policy(task).max_deaths}
        Job.objects.filter(pk__in=ids).revive(state=State.FAILURE, **limits)
    about = {"verb": REPLAYED, "actor": actor, "reason": reason}
    events = [
        Event(job_id=letter.job_id, details={"letter": letter.pk, "edited": False}, **about) for letter in letters
    ]
    note(events, state=State.PENDING)
