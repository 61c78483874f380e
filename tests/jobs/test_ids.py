"""Ids that sort by time are UUIDs like any others."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from uuid import RFC_4122, UUID

import pytest

from jobs.ids import uuid7


def test_an_id_is_what_the_uuid_module_makes_of_its_text() -> None:
    made = uuid7()
    same = UUID(str(made))
    assert (made, hash(made), repr(made), made.bytes) == (same, hash(same), repr(same), same.bytes)
    assert (made.version, made.variant, made.is_safe) == (7, RFC_4122, same.is_safe)
    assert pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == made
    with pytest.raises(TypeError):
        made.int = 0


def test_threads_never_make_the_same_id() -> None:
    with ThreadPoolExecutor(4) as pool:
        made = [each for part in pool.map(lambda _: [uuid7() for _ in range(5000)], range(4)) for each in part]
    assert len(set(made)) == 20_000
