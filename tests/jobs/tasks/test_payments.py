import socket
import uuid
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from jobs.errors import InvalidJob
from jobs.models import Attempt
from jobs.submission import submit
from jobs.tasks import payments, webhooks
from local.mailbox import falls_within
from local.readiness import free_port

ORDER = {"user_id": "usr_1", "amount": 49.9, "currency": "EUR"}


def a_key(*, charged_before_failing):
    """The sandbox gateway decides by the key whether its failing first call has charged."""
    keys = (f"order-{uuid.uuid4()}" for _ in range(1000))
    return next(key for key in keys if falls_within("lost:" + key, 0.5) == charged_before_failing)


@pytest.fixture
def gateway(settings, failing_gateway):
    settings.PAYMENT_GATEWAY_URL = failing_gateway.url
    return failing_gateway


@pytest.fixture
def told(settings, receiver):
    """A gateway that answers what the test says."""
    settings.PAYMENT_GATEWAY_URL = receiver.url("")
    return receiver


@pytest.mark.parametrize("charged_before_failing", [True, False])
def test_a_gateway_that_fails_first_charges_once_whether_or_not_it_had_charged(
    run, attempt, gateway, charged_before_failing
):
    key = a_key(charged_before_failing=charged_before_failing)
    job = run("process_payment", ORDER, key=key)
    assert (job.state, job.error_code) == ("RETRY", "Unavailable")
    assert gateway.get(f"/charges/{key}")["charged"] == int(charged_before_failing)
    job = attempt(job)
    assert job.state == "SUCCESS"
    assert gateway.get(f"/charges/{key}") == {"key": key, "charged": 1, "calls": 2}
    assert job.result == ORDER | {"status": "charged", "charge_id": job.result["charge_id"]}
    assert job.result["charge_id"].startswith("ch_")


def test_without_a_key_of_its_own_a_payment_is_known_by_the_jobs_id(run, attempt, gateway):
    job = attempt(run("process_payment", ORDER))
    assert gateway.get(f"/charges/{job.id}")["charged"] == 1


def test_a_declined_payment_is_a_dead_letter_with_the_gateways_reason(run, gateway):
    job = run("process_payment", ORDER | {"amount": 2_000_000})
    assert (job.state, job.retries, job.error_code) == ("FAILURE", 0, "Abandon")
    assert "402" in job.error and "declined: the limit is 1000000" in job.error


@pytest.mark.parametrize("status", [500, 503, 429, 408, 409])
def test_an_answer_that_means_later_is_tried_again(run, told, answer, status):
    told.answers["/charges"] = answer(status)
    assert run("process_payment", ORDER).state == "RETRY"


@pytest.mark.parametrize("status", [400, 401, 404, 422, 301])
def test_an_answer_that_means_no_is_not_tried_again(run, told, answer, status):
    told.answers["/charges"] = answer(status, {"Location": "/elsewhere"})
    assert run("process_payment", ORDER).state == "FAILURE"
    assert len(told.calls) == 1


@pytest.mark.parametrize(
    ("asked", "waited"),
    [("7", 7), ("100000", 600), ((datetime.now(UTC) + timedelta(hours=5)), 600), ("soon", None), ("-5", None)],
)
def test_retry_after_decides_the_wait_up_to_the_policys_cap(run, told, answer, asked, waited):
    header = format_datetime(asked, usegmt=True) if isinstance(asked, datetime) else asked
    told.answers["/charges"] = answer(503, {"Retry-After": header})
    delay = Attempt.objects.get(job=run("process_payment", ORDER)).delay
    assert delay == waited if waited else 2 <= delay <= 2.6


def test_a_gateway_that_is_away_is_tried_again(run, settings):
    settings.PAYMENT_GATEWAY_URL = f"http://127.0.0.1:{free_port()}"
    job = run("process_payment", ORDER)
    assert (job.state, job.error_code) == ("RETRY", "ConnectError")


def test_a_success_without_a_charge_id_is_asked_for_again(run, attempt, told, answer):
    told.answers["/charges"] = answer(200, body=b"<html>")
    job = run("process_payment", ORDER)
    assert job.state == "RETRY"
    told.answers["/charges"] = answer(201, body=b'{"charge_id": "ch_1", "status": "charged"}')
    assert attempt(job).result["charge_id"] == "ch_1"


@pytest.mark.parametrize("url", ["", "gateway.example"])
def test_a_missing_gateway_is_a_dead_letter_that_says_what_to_set(run, settings, url):
    settings.PAYMENT_GATEWAY_URL = url
    job = run("process_payment", ORDER)
    assert job.state == "FAILURE"
    assert job.error.startswith(f"PAYMENT_GATEWAY_URL is {url!r}: set it")


@pytest.mark.parametrize(
    ("given", "sent"),
    [(0.1, b"0.1"), ("19.99", b"19.99"), (120, b"120"), ("120.00", b"120"), (9999999999.99, b"9999999999.99")],
)
def test_an_amount_is_sent_with_the_digits_it_was_given(run, told, answer, given, sent):
    told.answers["/charges"] = answer(200, body=b'{"charge_id": "ch_1"}')
    assert run("process_payment", ORDER | {"amount": given}).state == "SUCCESS"
    assert told.calls[0].body == b'{"user_id":"usr_1","amount":' + sent + b',"currency":"EUR"}'


def test_a_key_that_no_header_can_hold_still_reaches_the_gateway(run, told, answer):
    told.answers["/charges"] = answer(200, body=b'{"charge_id": "ch_1"}')
    assert run("process_payment", ORDER, key="Bestellung 5 für\nZoë").state == "SUCCESS"
    assert told.calls[0].headers["idempotency-key"] == "Bestellung%205%20f%C3%BCr%0AZo%C3%AB"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", 0),
        ("amount", -1),
        ("amount", 1.005),
        ("amount", "NaN"),
        ("amount", "ten"),
        ("amount", True),
        ("amount", 1e15),
        ("currency", "eur"),
        ("currency", "EURO"),
        ("currency", "EUR\n"),
        ("user_id", ""),
        ("user_id", None),
    ],
)
@pytest.mark.django_db
def test_an_order_that_makes_no_sense_is_refused_at_submit_by_the_fields_name(field, value):
    with pytest.raises(InvalidJob) as refused:
        submit("process_payment", ORDER | {field: value})
    assert refused.value.field.startswith(f"/payload/{field}")


def test_whoever_does_not_answer_in_time_is_asked_again_later(run, settings, monkeypatch):
    for module in (payments, webhooks):
        monkeypatch.setattr(module, "TIMEOUT", httpx.Timeout(0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings.PAYMENT_GATEWAY_URL, settings.WEBHOOK_ALLOWED_HOSTS = url, ["127.0.0.1"]
        jobs = [run("process_payment", ORDER), run("deliver_webhook", {"url": url, "body": {}})]
    assert [(job.state, job.error_code) for job in jobs] == [("RETRY", "ReadTimeout")] * 2
