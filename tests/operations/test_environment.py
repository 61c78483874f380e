"""What the project makes of its environment: addresses of servers and mail, roots, and what it tells Celery."""

from typing import Any

import pytest
from celery import current_app
from celery.exceptions import QueueNotFound
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from config import env
from local import stack


@pytest.mark.parametrize(
    ("url", "host", "port", "login", "tls", "ssl"),
    [
        ("smtp://mail.example.com", "mail.example.com", 25, ("", ""), False, False),
        ("smtp://me:p%40ss@mail:2525", "mail", 2525, ("me", "p@ss"), False, False),
        ("smtp+tls://me:x@mail:587", "mail", 587, ("me", "x"), True, False),
        ("smtps://mail", "mail", 465, ("", ""), False, True),
    ],
)
def test_a_mail_server_by_url(url: str, host: str, port: int, login: tuple[str, str], tls: bool, ssl: bool) -> None:
    found = env.mail(url)
    assert found["EMAIL_BACKEND"].endswith("smtp.EmailBackend")
    assert (found["EMAIL_HOST"], found["EMAIL_PORT"]) == (host, port)
    assert (found["EMAIL_HOST_USER"], found["EMAIL_HOST_PASSWORD"]) == login
    assert (found["EMAIL_USE_TLS"], found["EMAIL_USE_SSL"]) == (tls, ssl)


@pytest.mark.parametrize(
    ("read", "name"), [(env.mail, "EMAIL_URL"), (env.database, "DATABASE_URL")], ids=["mail", "database"]
)
def test_another_scheme_is_refused_by_name(read: Any, name: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"{name} must start with"):
        read("http://example.com")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://me:p%40ss@db:5433/jobs", ("db", "5433", "me", "p@ss", "jobs")),
        ("postgresql:///jobs?host=/run/pg&user=me", ("/run/pg", "", "me", "", "jobs")),
    ],
)
def test_a_database_by_tcp_and_by_socket(url: str, expected: tuple[str, ...]) -> None:
    found = env.database(url)
    assert tuple(found[name] for name in ("HOST", "PORT", "USER", "PASSWORD", "NAME")) == expected
    assert found["OPTIONS"] == {}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://cache:6380/2", "redis://cache:6380/2"),
        ("rediss://cache/0", "rediss://cache/0"),
        ("unix:///run/redis.sock?db=3", "redis+socket:///run/redis.sock?virtual_host=3"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock?virtual_host=0"),
    ],
)
def test_a_redis_by_tcp_and_by_socket(url: str, told: str) -> None:
    assert env.broker(url) == told


def test_servers_of_ones_own_are_used_and_none_is_started(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"DATABASE_URL": "postgresql://db/jobs", "REDIS_URL": "redis://cache"}
    for name, url in given.items():
        monkeypatch.setenv(name, url)
    with stack.servers(tmp_path) as started:
        assert (started.urls, started.embedded) == (given, [])
    assert list(tmp_path.iterdir()) == []


def test_the_pipeline_reaches_its_sandbox_and_memory_only() -> None:
    assert [f"{(settings.DATA_DIR / 'sandbox').as_uri()}/", "memory://"] == settings.PIPELINE_ROOTS


def test_the_front_page_leads_to_the_panel() -> None:
    answer = Client().get("/", secure=True)
    assert (answer.status_code, answer.headers["location"]) == (302, "/admin/")


def test_what_a_lost_or_repeated_message_could_depend_on() -> None:
    conf = current_app.conf
    assert (conf.accept_content, conf.task_serializer, conf.result_serializer) == (["json"], "json", "json")
    assert (conf.task_acks_late, conf.task_reject_on_worker_lost) == (True, True)
    assert (conf.worker_prefetch_multiplier, conf.worker_max_tasks_per_child) == (1, 1000)
    assert conf.worker_soft_shutdown_timeout == 10
    # The longest hard limit shipped is an hour, and ten minutes are for the settlement.
    assert conf.broker_transport_options["visibility_timeout"] == 3600 + 600
    assert conf.task_create_missing_queues is False
    assert [queue.name for queue in conf.task_queues] == ["high", "default", "low", "solo", "system"]


def test_a_queue_that_is_not_declared_is_refused() -> None:
    with pytest.raises(QueueNotFound):
        current_app.tasks["celery.backend_cleanup"].apply_async(queue="nowhere")
