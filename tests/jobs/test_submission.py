"""Submitting: one statement in the caller's transaction, tickets on commit, clear refusals, nothing half-written."""

import base64
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import redis
from asgiref.sync import async_to_sync
from celery import Celery, chain, chord, current_app, group, signature
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs import connections, policies, tickets
from jobs.errors import InvalidJob, JobExists, KeyReused, NotSupported, QueueFull, UnknownTask
from jobs.ids import uuid7
from jobs.models import Event, IdempotencyKey, Job, JobLabel
from jobs.submission import asubmit, submit
from jobs.tasks.demonstration import always_fails, flaky
from jobs.tickets import Ticket
from tests.making import force_state, make_job

pytestmark = pytest.mark.django_db(transaction=True)


def waiting_tickets(broker: redis.Redis, queue: str = "default") -> list[str]:
    return [json.loads(text)["headers"]["id"] for text in broker.lrange(queue, 0, -1)]


def nothing_written() -> bool:
    return not (Job.objects.exists() or IdempotencyKey.objects.exists() or JobLabel.objects.exists())


def test_a_job_its_key_and_its_labels_are_one_statement(broker: redis.Redis) -> None:
    with CaptureQueriesContext(connection) as queries:
        job = submit("send_email", {"to": "a@b.com", "subject": "s", "body": "b"}, key="k", tags=["x"])
    assert len(queries) == 0  # prepared on the connection itself, past Django's cursor
    assert job == Job.objects.get()
    assert job.idempotency_key == "k"
    assert set(job.labels.values_list("label", flat=True)) == {"tag:x", "to:a@b.com"}


def test_the_returned_job_is_the_row(broker: redis.Redis) -> None:
    job = submit("flaky", {"failures": 1}, key="k", tags=["b", "a"], expires_at=timezone.now() + timedelta(hours=1))
    row = Job.objects.get(pk=job.pk)
    for field in Job._meta.concrete_fields:
        assert getattr(job, field.attname) == getattr(row, field.attname), field.name


def test_a_ticket_goes_out_on_commit_and_not_before(broker: redis.Redis) -> None:
    with transaction.atomic():
        job = submit("flaky", {"failures": 0})
        assert waiting_tickets(broker) == []
    assert waiting_tickets(broker) == [str(job.pk)]


def test_a_rolled_back_job_gets_no_ticket(broker: redis.Redis) -> None:
    with transaction.atomic():
        submit("flaky", {"failures": 0})
        transaction.set_rollback(True)
    assert waiting_tickets(broker) == []
    assert nothing_written()


def test_exactly_the_jobs_that_survive_savepoints_get_tickets_at_commit(broker: redis.Redis) -> None:
    with transaction.atomic():
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            submit("flaky", {"failures": 0})
            raise ZeroDivisionError
        kept = [submit("flaky", {"failures": 0})]
        with transaction.atomic():
            kept.append(submit("flaky", {"failures": 0}, key="inner"))
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            submit("flaky", {"failures": 0}, key="gone")
            raise ZeroDivisionError
    assert sorted(waiting_tickets(broker)) == sorted(str(job.pk) for job in kept)


def test_a_failing_hook_of_the_callers_does_not_lose_the_ticket(broker: redis.Redis) -> None:
    with transaction.atomic():
        transaction.on_commit(lambda: 1 / 0, robust=True)
        job = submit("flaky", {"failures": 0})
    assert waiting_tickets(broker) == [str(job.pk)]


def test_a_caller_hears_nothing_of_a_hook_that_failed_once_the_job_is_committed(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Redis is away, and PostgreSQL goes away just after the commit, so the row keeps a ticket that never was."""
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    tickets._publisher.cache_clear()
    with transaction.atomic():
        transaction.on_commit(end_this_connection)
        job = submit(flaky, {"failures": 0})
    tickets._publisher.cache_clear()
    connection.close()
    assert "Error calling publish_on_commit" in caplog.text
    assert Job.objects.get(pk=job.pk).dispatched_at is not None


def end_this_connection() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    with psycopg.connect(**connections._parameters(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


def test_a_job_for_later_gets_no_ticket_now(broker: redis.Redis) -> None:
    job = submit("flaky", {"failures": 0}, delay=60)
    assert (job.dispatched_at, job.dispatch_no, waiting_tickets(broker)) == (None, 0, [])
    assert timedelta(seconds=59) < job.run_at - job.created_at <= timedelta(seconds=60)


def test_a_ticket_is_what_celery_itself_would_send_less_what_goes_without_saying(broker: redis.Redis) -> None:
    ticket = Ticket(uuid4(), "flaky", "default")
    ours = json.loads(tickets.message(ticket))
    app = Celery("stock", broker=settings_broker(), set_as_current=False)
    with app.connection_for_write() as wire:
        message = app.amqp.create_task_message(str(ticket.job), "flaky", args=(), kwargs={}, ignore_result=True)
        producer = app.amqp.Producer(wire.channel())
        producer.publish(
            message.body, routing_key="probe", exchange="", serializer="json", headers=message.headers,
            **message.properties,
        )  # fmt: skip
    theirs = json.loads(broker.lrange("probe", 0, -1)[0])
    for changing in (("headers", "origin"), ("properties", "delivery_tag"), ("properties", "delivery_info")):
        ours[changing[0]].pop(changing[1])
        theirs[changing[0]].pop(changing[1])
    arguments, named, told = json.loads(base64.b64decode(theirs["body"]))
    assert json.loads(base64.b64decode(ours.pop("body"))) == [arguments, named, {}] and not any(told.values())
    for part in ("headers", "properties"):
        said, all_of_it = ours.pop(part), theirs[part]
        assert said.items() <= all_of_it.items()
        left_out = {name: value for name, value in all_of_it.items() if name not in said}
        granted = {"timelimit": [None, None], "ignore_result": True, "delivery_mode": 2}
        granted |= {"argsrepr": "()", "kwargsrepr": "{}"}
        assert not [name for name, value in left_out.items() if value and granted.get(name) != value]
    assert ours.items() <= theirs.items()


def settings_broker() -> str:
    from config.celery import app

    return app.conf.broker_url


@pytest.mark.parametrize(
    ("task", "payload", "options", "field"),
    [
        ("nobody", {}, {}, "/task"),
        (5, {}, {}, "/task"),
        ("flaky", {"failures": "2"}, {}, "/payload/failures"),
        ("flaky", {"failures": -1}, {}, "/payload/failures"),
        ("flaky", {"failure": 1}, {}, "/payload/failure"),
        ("flaky", [], {}, "/payload"),
        ("always_fails", {"message": "a\x00b"}, {}, "/payload/message"),
        ("always_fails", {"message": "\ud800"}, {}, "/payload/message"),
        ("slow", {"seconds": float("nan")}, {}, "/payload/seconds"),
        ("always_fails", {"message": "x" * 1_000_000}, {}, "/payload"),
        ("flaky", {}, {"queue": "nowhere"}, "/queue"),
        ("flaky", {}, {"queue": "solo"}, "/queue"),
        ("flaky", {}, {"key": ""}, "/idempotency_key"),
        ("flaky", {}, {"key": "k" * 256}, "/idempotency_key"),
        ("flaky", {}, {"key": "k\x00"}, "/idempotency_key"),
        ("flaky", {}, {"tags": "abc"}, "/tags"),
        ("flaky", {}, {"tags": ["ok", 5]}, "/tags/1"),
        ("flaky", {}, {"run_at": "soon"}, "/run_at"),
        ("flaky", {}, {"run_at": "2026-02-30T00:00:00Z"}, "/run_at"),
        ("flaky", {}, {"run_at": "2026-01-01T00:00:00"}, "/run_at"),
        ("flaky", {}, {"expires_at": 5}, "/expires_at"),
        ("flaky", {}, {"delay": -1}, "/delay"),
        ("flaky", {}, {"callback_url": "ftp://example.com/"}, "/callback_url"),
        ("flaky", {}, {"job_id": "no-uuid"}, "/task_id"),
    ],
)
def test_bad_input_is_refused_by_field_and_nothing_is_written(
    broker: redis.Redis, task: Any, payload: Any, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidJob) as caught:
        submit(task, payload, **options)
    assert caught.value.field == field
    assert nothing_written()
    assert waiting_tickets(broker) == []


def test_an_unknown_task_says_which_there_are() -> None:
    with pytest.raises(UnknownTask, match=r"always_fails.*flaky"):
        submit("flakky", {})


def test_a_refused_job_does_not_break_the_callers_transaction(broker: redis.Redis) -> None:
    with transaction.atomic():
        for bad in ({"failures": "2"}, {"nope": 1}):
            with pytest.raises(InvalidJob):
                submit("flaky", bad)
        first = submit("flaky", {"failures": 0}, key="a")
        with pytest.raises(KeyReused):
            submit("flaky", {"failures": 1}, key="a")
        with pytest.raises(JobExists):
            submit("flaky", {"failures": 0}, job_id=first.pk)
        with pytest.raises(JobExists):
            submit("flaky", {"failures": 0}, job_id=first.pk, key="b")
        second = submit("flaky", {"failures": 0})
    assert set(Job.objects.values_list("pk", flat=True)) == {first.pk, second.pk}
    assert IdempotencyKey.objects.count() == 1


def test_the_same_key_and_body_is_the_same_job_whatever_the_times(broker: redis.Redis) -> None:
    first = submit("flaky", {"failures": 0}, key="k")
    again = submit("flaky", {"failures": 0}, key="k", delay=30)
    assert (again.pk, again.replayed, first.replayed) == (first.pk, True, False)
    assert waiting_tickets(broker) == [str(first.pk)]


@pytest.mark.parametrize(
    "other", [{"queue": "low"}, {"tags": ["t"]}, {"callback_url": "https://example.com/"}, {"payload": {"failures": 1}}]
)
def test_the_same_key_with_another_body_is_refused(other: dict[str, Any]) -> None:
    submit("flaky", {"failures": 0}, key="k")
    with pytest.raises(KeyReused, match="'k' was already used"):
        submit("flaky", other.pop("payload", {"failures": 0}), key="k", **other)
    assert Job.objects.count() == 1


def test_keys_of_different_owners_do_not_meet() -> None:
    assert submit("flaky", {}, key="k", scope="a").pk != submit("flaky", {}, key="k", scope="b").pk


@pytest.mark.parametrize(
    ("state", "taken"), [("SUCCESS", True), ("REVOKED", True), ("FAILURE", False), ("PENDING", False)]
)
def test_an_expired_key_is_taken_over_only_from_a_job_that_cannot_run_again(state: str, taken: bool) -> None:
    old = submit("flaky", {"failures": 0}, key="k")
    force_state(old, state, finished_at=timezone.now() if state != "PENDING" else None)
    IdempotencyKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    new = submit("flaky", {"failures": 0}, key="k")
    assert (new.pk != old.pk) == taken
    assert Event.objects.filter(job=old, verb="key taken over").exists() == taken


def test_a_full_queue_refuses_clearly(tmp_path: Path, settings: Any) -> None:
    text = settings.POLICIES_FILE.read_text().replace("[flaky]", "[flaky]\nmax_depth = 2")
    settings.POLICIES_FILE = tmp_path / "policies.toml"
    settings.POLICIES_FILE.write_text(text)
    policies._load.cache_clear()
    submit("flaky", {})
    submit("flaky", {})
    with pytest.raises(QueueFull, match="'default' holds 2 waiting jobs, the limit is 2"):
        submit("flaky", {})
    assert Job.objects.count() == 2


def test_delay_and_apply_async_write_the_row_in_the_callers_transaction(broker: redis.Redis) -> None:
    with transaction.atomic():
        result = flaky.delay(2)
        assert Job.objects.get(pk=result.id).payload == {"failures": 2}
        transaction.set_rollback(True)
    assert nothing_written()


def test_apply_async_takes_what_celery_users_pass() -> None:
    chosen = uuid4()
    eta = datetime(2030, 1, 1)
    result = flaky.apply_async((2,), task_id=str(chosen), eta=eta, expires=60, queue="low", headers={"tenant": "a"})
    job = Job.objects.get()
    assert (job.pk, str(job.pk)) == (chosen, result.id)
    assert (job.run_at, job.queue, job.trace) == (eta.replace(tzinfo=UTC), "low", {"tenant": "a"})
    assert timedelta(seconds=50) < job.expires_at - timezone.now() <= timedelta(seconds=60)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"link": always_fails.s()}, "/link"),
        ({"link_error": always_fails.s()}, "/link_error"),
        ({"chain": [always_fails.s()]}, "/chain"),
        ({"chord": {"a": 1}}, "/chord"),
        ({"group_id": "g"}, "/group_id"),
        ({"time_limit": 5}, "/time_limit"),
        ({"made_up": 1}, "/made_up"),
    ],
)
def test_what_a_job_cannot_do_is_refused_by_name(options: dict[str, Any], field: str) -> None:
    with pytest.raises(NotSupported) as caught:
        flaky.apply_async((), **options)
    assert caught.value.field == field
    assert nothing_written()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"countdown": -1}, "/countdown"),
        ({"countdown": "soon"}, "/countdown"),
        ({"eta": "soon"}, "/eta"),
        ({"priority": 5}, "/priority"),
        ({"queue": "nowhere"}, "/queue"),
        ({"expires": float("nan")}, "/expires"),
        ({"expires": 1e12}, "/expires"),
        ({"expires": "soon"}, "/expires"),
    ],
)
def test_a_bad_option_is_called_what_the_caller_called_it(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        flaky.apply_async((), **options)
    assert caught.value.field == field and str(caught.value).startswith(f"{field}: ")
    assert nothing_written()


CLEANUP = current_app.tasks["celery.backend_cleanup"]


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: chain(flaky.si(0), flaky.si(0)).apply_async(), "/chain"),
        (lambda: chain(CLEANUP.si(), flaky.si(0)).apply_async(), "/chain"),
        ((CLEANUP.si() | signature("flaky", (0,), immutable=True)).apply_async, "/chain"),
        (lambda: group(flaky.si(0), flaky.si(0)).apply_async(), "/group"),
        (lambda: group(CLEANUP.si(), flaky.si(0)).apply_async(), "/group"),
        (lambda: group(CLEANUP.si(), flaky.si(0).clone()).apply_async(), "/group"),
        (lambda: chord([flaky.si(0)], flaky.si(0)).apply_async(), "/group"),
        (lambda: chord([CLEANUP.si(), CLEANUP.si()], flaky.si(0)).apply_async(), "/group"),
        (lambda: CLEANUP.apply_async(link=flaky.si(0)), "/link"),
        (lambda: CLEANUP.apply_async(link=CLEANUP.si().on_error(flaky.si(0))), "/link"),
        (lambda: CLEANUP.apply_async(link_error=[flaky.s()]), "/link_error"),
        (lambda: flaky.map([0]).apply_async(), "/map"),
        (lambda: flaky.starmap([(0,)]).delay(), "/map"),
        (lambda: flaky.chunks([(0,), (1,)], 1).apply_async(), "/map"),
    ],
)
def test_whatever_would_put_a_job_into_celerys_canvas_is_refused_before_anything_is_sent(
    broker: redis.Redis, call: Callable[[], Any], field: str
) -> None:
    with pytest.raises(NotSupported) as caught:
        call()
    assert caught.value.field == field
    assert nothing_written()
    assert broker.keys("*") == []


def test_a_signature_of_a_job_alone_submits_it(broker: redis.Redis) -> None:
    flaky.s(1).set(queue="low").apply_async()
    job = Job.objects.get()
    assert (job.payload, job.queue) == ({"failures": 1}, "low")


def test_a_task_called_as_a_function_is_its_function() -> None:
    with pytest.raises(RuntimeError, match="boo"):
        always_fails("boo")
    assert nothing_written()


def test_submitting_from_async_code_works(broker: redis.Redis) -> None:
    async def go() -> UUID:
        return (await asubmit("flaky", {"failures": 0})).pk

    made = async_to_sync(go)()
    assert waiting_tickets(broker) == [str(made)]


def test_children_of_one_process_draw_other_random_bits_than_it_and_each_other() -> None:
    uuid7()
    drawn = {in_a_child(random_bits) for _ in range(3)} | {random_bits()}
    assert len(drawn) == 4


def random_bits() -> int:
    return uuid7().int & (1 << 62) - 1


def in_a_child(work: Callable[[], int]) -> int:
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(writer, str(work()).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    try:
        return int(os.read(reader, 100))
    finally:
        os.close(reader)


def test_ids_sort_by_time() -> None:
    first = make_job()
    from tests.waiting import eventually

    eventually(lambda: timezone.now() - first.created_at > timedelta(milliseconds=2), within=5)
    assert make_job().pk.hex > first.pk.hex
    assert first.pk.version == 7
