"""What a JSON column would choke on is refused by name, before anything is written."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import InvalidJob
from jobs.storable import check_text, clean, dumps

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(categories=None)),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(categories=None)), inner, max_size=4)
    ),
    max_leaves=8,
)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "field", "words"),
    [
        ({"a": "x\x00y"}, "/p/a", "NUL"),
        ({"a": ["\ud800"]}, "/p/a/0", "lone surrogate"),
        ({"a": {"b/c": float("nan")}}, "/p/a/b~1c", "not a JSON number"),
        ({"a": float("inf")}, "/p/a", "not a JSON number"),
        ({"a": {1, 2}}, "/p/a", "set is not a JSON value"),
        ({1: "a"}, "/p", "not a string"),
        ({"bad\x00key": 1}, "/p", "NUL"),
        ({"a": "x" * 2000}, "/p", "the limit is 1000"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_the_place(value: Any, field: str, words: str) -> None:
    with pytest.raises(InvalidJob, match=words) as caught:
        dumps(value, field="/p", limit=1000)
    assert caught.value.field == field


def test_deep_nesting_is_refused_instead_of_overflowing_the_stack() -> None:
    with pytest.raises(InvalidJob, match="nested more than 100"):
        dumps(nested(10_000), field="/p", limit=10**6)


@pytest.mark.django_db
@given(value=JSON)
def test_whatever_passes_is_taken_by_postgresql(value: Any) -> None:
    from django.db import connection

    try:
        text = dumps(value, field="/p", limit=10_000)
    except InvalidJob:
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::jsonb IS NOT NULL", [text])
        assert cursor.fetchone() == (True,)


def test_foreign_text_is_cleaned_and_cut_in_the_middle() -> None:
    assert clean("a\x00b\ud800c", limit=100) == "a\ufffdb\ufffdc"
    cut = clean("start" + "x" * 5000 + "end", limit=100)
    assert len(cut) <= 100
    assert (cut[:5], cut[-3:]) == ("start", "end")


def test_text_that_is_no_text_is_named() -> None:
    with pytest.raises(InvalidJob, match="must be a string, not int"):
        check_text(5, field="/tags/0", limit=10)


@given(value=JSON)
def test_the_text_is_that_of_json_itself(value: Any) -> None:
    try:
        text = dumps(value, field="/p", limit=10_000)
    except InvalidJob:
        return
    assert text == json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


@pytest.mark.parametrize("value", [{"a": r"\u0000"}, {"é": "ü"}, {"a": (1, "b")}, {"a": {"b": [{}, []]}}, [2**80], "x"])
def test_what_looks_odd_but_is_sound_is_stored_as_it_is(value: Any) -> None:
    assert json.loads(dumps(value, field="/p", limit=1000)) == json.loads(json.dumps(value))
