import hashlib
import hmac
import json

import pytest

from jobs.errors import InvalidJob
from jobs.models import Attempt
from jobs.submission import submit
from jobs.tasks.signing import sign, verify
from tests.waiting import eventually

BODY = {"event": "done", "name": "Zoë"}


def test_a_webhook_is_delivered_with_a_signature_that_the_receiver_can_verify(run, receiver, settings):
    settings.WEBHOOK_SECRET = "shared"
    job = run("deliver_webhook", {"url": receiver.url(), "body": BODY}, key="order-1")
    assert job.result == {"status": "delivered", "status_code": 200, "url": receiver.url()}
    [call] = receiver.calls
    assert json.loads(call.body) == BODY
    assert call.headers["idempotency-key"] == "order-1"
    assert call.headers["content-type"] == "application/json"
    signature = call.headers["x-switchyard-signature"]
    assert verify(call.body, signature, "shared")
    assert not verify(call.body + b" ", signature, "shared")
    assert not verify(call.body, signature, "other")


def test_the_sandbox_takes_webhooks(run, failing_gateway, settings):
    settings.WEBHOOK_ALLOWED_HOSTS = ["127.0.0.1"]
    job = run("deliver_webhook", {"url": f"{failing_gateway.url}/webhooks", "body": BODY})
    assert job.result["status_code"] == 204
    assert json.loads(failing_gateway.lines("webhooks.jsonl")[-1]["body"]) == BODY


def test_every_attempt_is_signed_at_its_own_time_under_the_same_key(run, attempt, receiver, answer):
    receiver.answers["/hook"] = answer(500)
    job = run("deliver_webhook", {"url": receiver.url(), "body": BODY})
    receiver.answers.clear()
    assert attempt(job).state == "SUCCESS"
    first, second = receiver.calls
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] == str(job.id)


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_an_answer_that_means_later_is_tried_again(run, receiver, answer, status):
    receiver.answers["/hook"] = answer(status, body=b"busy")
    job = run("deliver_webhook", {"url": receiver.url(), "body": BODY})
    assert (job.state, job.error_code) == ("RETRY", "Unavailable")
    assert job.error == f"{receiver.url()} answered {status}: busy"


@pytest.mark.parametrize("status", [400, 404, 410, 303])
def test_an_answer_that_means_no_is_a_dead_letter_with_what_was_said(run, receiver, answer, status):
    receiver.answers["/hook"] = answer(status, {"Location": "/elsewhere"}, b"unknown\ncustomer")
    job = run("deliver_webhook", {"url": receiver.url(), "body": BODY})
    assert (job.state, job.error) == ("FAILURE", f"{receiver.url()} answered {status}: unknown customer")


def test_what_a_url_carries_in_its_query_stays_out_of_the_error(run, receiver, answer):
    receiver.answers["/hook?token=secret"] = answer(404)
    job = run("deliver_webhook", {"url": receiver.url("/hook?token=secret"), "body": BODY})
    assert job.error == f"{receiver.url()} answered 404"


def test_retry_after_decides_the_wait(run, receiver, answer):
    receiver.answers["/hook"] = answer(429, {"Retry-After": "90"})
    job = run("deliver_webhook", {"url": receiver.url(), "body": BODY})
    assert Attempt.objects.get(job=job).delay == 90


def test_a_long_answer_is_not_read_to_its_end(run, receiver, answer):
    receiver.answers["/hook"] = answer(404, body=b"x" * 50_000_000)
    job = run("deliver_webhook", {"url": receiver.url(), "body": BODY})
    assert len(job.error) < 600
    eventually(lambda: receiver.was_cut_short, within=10)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_receiver_that_moved_gets_the_same_post_at_its_new_place(run, receiver, answer, status):
    receiver.answers["/hook"] = answer(status, {"Location": "/new"})
    assert run("deliver_webhook", {"url": receiver.url(), "body": BODY}).state == "SUCCESS"
    old, new = receiver.calls
    assert (new.path, new.body) == ("/new", old.body)
    assert new.headers["x-switchyard-signature"] == old.headers["x-switchyard-signature"]


def test_a_redirect_to_an_inner_address_is_refused_without_a_call(run, receiver, stranger, answer):
    receiver.answers["/hook"] = answer(307, {"Location": stranger.url()})
    job = run("deliver_webhook", {"url": receiver.url(), "body": BODY})
    assert job.state == "FAILURE"
    assert "127.0.0.1 is not a public address; WEBHOOK_ALLOWED_HOSTS must list the host" in job.error
    assert stranger.calls == []


@pytest.mark.parametrize(
    "there",
    ["http://169.254.169.254/latest/meta-data/", "http://[::ffff:169.254.169.254]/", "file:///etc/passwd", "http://["],
)
def test_a_redirect_to_the_metadata_service_or_to_nowhere_is_refused(run, receiver, answer, there):
    receiver.answers["/hook"] = answer(302, {"Location": there})
    job = run("deliver_webhook", {"url": receiver.url(), "body": BODY})
    assert (job.state, job.retries) == ("FAILURE", 0)
    assert len(receiver.calls) == 1


def test_a_circle_of_redirects_ends(run, receiver, answer):
    receiver.answers["/hook"] = answer(307, {"Location": "/hook"})
    job = run("deliver_webhook", {"url": receiver.url(), "body": BODY})
    assert (job.state, len(receiver.calls)) == ("FAILURE", 4)
    assert "redirected more than 3 times" in job.error


def test_a_redirect_that_does_not_say_where_is_a_dead_letter(run, receiver, answer):
    receiver.answers["/hook"] = answer(307)
    job = run("deliver_webhook", {"url": receiver.url(), "body": BODY})
    assert job.error == f"{receiver.url()} answered 307 without saying where it moved."


def test_a_name_that_resolves_to_an_inner_address_is_a_dead_letter(run, stranger, monkeypatch):
    import socket

    real = socket.getaddrinfo

    def resolver(host, *args, **kwargs):
        return real("127.0.0.1" if host == "inner.example" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    port = stranger.host.partition(":")[2]
    job = run("deliver_webhook", {"url": f"http://inner.example:{port}/", "body": BODY})
    assert job.state == "FAILURE"
    assert "inner.example (127.0.0.1) is not a public address" in job.error
    assert stranger.calls == []


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "ftp://example.com/", "http://user:pw@example.com/", "x", ""])
@pytest.mark.django_db
def test_a_url_that_gives_itself_away_is_refused_at_submit_by_the_fields_name(url):
    with pytest.raises(InvalidJob) as refused:
        submit("deliver_webhook", {"url": url, "body": BODY})
    assert refused.value.field == "/payload/url"


def test_a_signature_is_made_of_the_time_a_full_stop_and_the_body():
    wanted = hmac.new(b"s", b"1000.{}", hashlib.sha256).hexdigest()
    assert sign(b"{}", "s", timestamp=1000) == f"t=1000,v1={wanted}"


def test_a_signature_does_not_hold_under_another_time():
    _, v1 = sign(b"{}", "s", timestamp=1000).split(",")
    assert not verify(b"{}", f"t=1001,{v1}", "s", now=1000)


@pytest.mark.parametrize("age", [-299, 0, 299])
def test_a_signature_holds_within_the_tolerance(age):
    assert verify(b"{}", sign(b"{}", "s", timestamp=1000), "s", tolerance=300, now=1000 + age)


@pytest.mark.parametrize("age", [-301, 301])
def test_a_signature_does_not_hold_for_a_replayed_delivery(age):
    assert not verify(b"{}", sign(b"{}", "s", timestamp=1000), "s", tolerance=300, now=1000 + age)


@pytest.mark.parametrize("header", ["", "t=1000", "v1=aa", "t=x,v1=aa", "t=1000,t=1001,v1=aa", "t=²,v1=é", ",,=,"])
def test_a_header_that_is_no_signature_is_refused_and_not_an_error(header):
    assert not verify(b"{}", header, "s", now=1000)


def test_one_valid_signature_of_two_is_enough_while_secrets_are_exchanged():
    old, new = (sign(b"{}", secret, timestamp=1000).partition(",")[2] for secret in ("old", "new"))
    assert verify(b"{}", f"t=1000,{old},{new}", "new", now=1000)
