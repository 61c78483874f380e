from typing import Any

import pytest
import redis
from django.test import Client

from api.logins import FAILURES_OF_ADDRESS, FAILURES_OF_NAME, _client
from local.readiness import free_port

pytestmark = pytest.mark.django_db
PASSWORD = "a long and good one"


@pytest.fixture
def admin(django_user_model: Any, broker: redis.Redis, settings: Any) -> Any:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    _client.cache_clear()
    yield django_user_model.objects.create_superuser("admin", password=PASSWORD)
    _client.cache_clear()


def log_in(password: str, *, name: str = "admin", address: str = "10.0.0.1") -> bool:
    client = Client(REMOTE_ADDR=address)
    return client.post("/admin/login/", {"username": name, "password": password}).status_code == 302


def test_after_too_many_failures_the_right_password_is_refused_too(admin: Any) -> None:
    assert not any(log_in(f"guess {number}") for number in range(FAILURES_OF_NAME))
    assert not log_in(PASSWORD)
    assert log_in(PASSWORD, address="10.0.0.2")


def test_a_few_failures_keep_nobody_out(admin: Any) -> None:
    assert not log_in("typo")
    assert log_in(PASSWORD)


def test_an_address_that_tries_many_names_is_refused(admin: Any, broker: redis.Redis) -> None:
    broker.set("switchyard:login:10.0.0.1", FAILURES_OF_ADDRESS)
    assert not log_in(PASSWORD)


def test_the_count_is_forgotten_after_a_while(admin: Any, broker: redis.Redis) -> None:
    log_in("typo")
    assert all(0 < int(broker.ttl(key)) <= 300 for key in broker.keys("switchyard:login:*"))  # type: ignore[union-attr]


def test_without_redis_everybody_may_try(admin: Any, settings: Any) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    assert not log_in("typo")
    assert log_in(PASSWORD)
