"""Two people, one letter: one of them wins, the other is told."""

from collections.abc import Callable
from typing import Any

import pytest

from deadletters.drop import drop
from deadletters.models import DeadLetter
from deadletters.purge import purge
from deadletters.replay import replay
from jobs.errors import Conflict
from jobs.models import Event, Job
from tests.deadletters.making import make_letter
from tests.races.test_one_winner import in_threads


def outcome_of(act: Callable[[], Any]) -> str:
    try:
        act()
    except Conflict as refused:
        return str(refused)
    return "won"


@pytest.mark.parametrize("round_", range(5))
def test_two_replays_of_one_letter_have_one_winner(round_: int) -> None:
    letter = make_letter()
    outcomes = in_threads(4, lambda n: outcome_of(lambda: replay(letter, actor=f"p{n}", reason="x")))
    assert outcomes.count("won") == 1
    assert sum("was replayed already by p" in told for told in outcomes) == 3
    assert Event.objects.filter(verb="replayed").count() == 1
    assert Job.objects.get().state == "PENDING"


@pytest.mark.parametrize("round_", range(5))
def test_a_replay_and_a_drop_of_one_letter_have_one_winner(round_: int) -> None:
    letter = make_letter()
    acts = [replay, drop]
    outcomes = in_threads(2, lambda n: outcome_of(lambda: acts[n](letter, actor=f"p{n}", reason="x")))
    assert outcomes.count("won") == 1
    letter.refresh_from_db()
    expected = {"REPLAYED": "PENDING", "DROPPED": "FAILURE"}
    assert Job.objects.get().state == expected[str(letter.resolution)]


def test_two_purges_of_the_same_letters_delete_each_once() -> None:
    letters = [make_letter(str(number)) for number in range(6)]
    for letter in letters:
        drop(letter, actor="mira", reason="x")
    orders = [letters, letters[::-1]]
    purged = in_threads(2, lambda n: purge(orders[n], actor="mira"))
    assert sum(len(each.done) for each in purged) == 6
    assert sum(each.jobs for each in purged) == 6
    assert not DeadLetter.objects.exists()
