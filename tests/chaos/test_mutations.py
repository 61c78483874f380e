"""Scenario 44 stays possible: the guards are where they are taken out, and the tests named for them exist."""

import ast

import pytest

from local.place import CHECKOUT
from tests.chaos.mutations import MUTATIONS, Mutation, mutated


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.guard)
def test_a_guard_can_be_taken_out_and_leaves_python(mutation: Mutation) -> None:
    text = (CHECKOUT / mutation.path).read_text()
    changed = mutated(text, mutation)
    assert changed != text
    ast.parse(changed)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.guard)
def test_the_tests_named_for_a_guard_exist(mutation: Mutation) -> None:
    assert mutation.tests
    for test in mutation.tests:
        path, _, name = test.partition("::")
        assert f"def {name}(" in (CHECKOUT / path).read_text()
