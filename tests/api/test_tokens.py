"""What is kept of a token, how it is compared, and how its use is noted."""

import base64
import hashlib
import hmac
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from api import models
from api.models import ApiToken
from tests.api.calling import Api, person, token


def test_only_the_digest_of_32_random_bytes_is_kept(web: str) -> None:
    made = [ApiToken.issue(name="digest", owner=person(), scopes=["read"]) for _ in range(2)]
    for row, text in made:
        prefix, _, secret = text.partition(".")
        assert len(base64.urlsafe_b64decode(secret + "=")) == 32
        assert (row.prefix, row.digest) == (prefix, hashlib.sha256(secret.encode()).hexdigest())
        assert not any(secret in str(value) for value in ApiToken.objects.filter(pk=row.pk).values_list()[0])
    assert made[0][1] != made[1][1]


def test_every_comparison_takes_the_same_time(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For an unknown prefix too, or else it would tell which prefixes there are."""
    good = token("read")
    compared: list[tuple[Any, Any]] = []

    def compare(known: str, given: str) -> bool:
        compared.append((known, given))
        return hmac.compare_digest(known, given)

    monkeypatch.setattr(models, "hmac", type("Noting", (), {"compare_digest": staticmethod(compare)}))
    prefix, _, secret = good.partition(".")
    found = [ApiToken.authenticate(text) for text in (good, f"{prefix}.x", f"00000000.{secret}", "")]
    assert [row is not None for row in found] == [True, False, False, False]
    assert len(compared) == 4 and {len(text) for pair in compared for text in pair} == {64}


@pytest.mark.parametrize(("age", "is_noted"), [(None, True), (61, True), (40, False)])
def test_a_use_is_noted_once_a_minute(web: str, age: int | None, is_noted: bool) -> None:
    before = None if age is None else timezone.now() - timedelta(seconds=age)
    with Api(web, token("read", name="used", last_used_at=before)) as api:
        assert api.get("queues").status_code == 200
        row = ApiToken.objects.filter(name="used").latest("created_at")
        assert (row.last_used_at != before) is is_noted
        assert row.last_used_at is not None and timezone.now() - row.last_used_at < timedelta(seconds=60)
        assert api.get("queues").status_code == 200
    assert ApiToken.objects.get(pk=row.pk).last_used_at == row.last_used_at
