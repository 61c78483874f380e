import re
from email import message_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import InvalidJob
from jobs.models import Attempt
from jobs.submission import submit
from jobs.tasks.mailing import message_id_for
from local.readiness import free_port
from tests.making import force_state

WELCOME = {"to": "ada@example.com", "subject": "Welcome", "body": "Hello Ada."}


@pytest.fixture
def mailbox(settings, refusing_mailbox):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", refusing_mailbox.port
    return refusing_mailbox


def deliveries(mailbox, message_id):
    return [entry["outcome"] for entry in mailbox.lines("deliveries.jsonl") if entry["message_id"] == message_id]


def messages(mailbox, message_id):
    kept = [message_from_bytes(path.read_bytes()) for path in mailbox.directory.glob("*.eml")]
    return [message for message in kept if message["Message-ID"] == message_id]


def test_a_message_refused_for_now_is_sent_by_the_next_attempt_under_the_same_message_id(run, attempt, mailbox):
    job = run("send_email", WELCOME)
    assert (job.state, job.error_code) == ("RETRY", "SMTPDataError")
    assert "451" in job.error
    job = attempt(job)
    assert job.state == "SUCCESS"
    message_id = job.result["message_id"]
    assert job.result == {"status": "sent", "to": "ada@example.com", "subject": "Welcome", "message_id": message_id}
    assert deliveries(mailbox, message_id) == ["refused", "accepted"]
    [message] = messages(mailbox, message_id)
    assert message["To"] == "ada@example.com"
    assert message.get_payload().strip() == "Hello Ada."


def test_an_address_refused_for_good_is_a_dead_letter_with_the_servers_words(run, mailbox):
    job = run("send_email", WELCOME | {"to": "nobody@refused.example"})
    assert (job.state, job.retries, job.error_code) == ("FAILURE", 0, "Abandon")
    assert job.error == "The mail server refused the message for good: 550 5.1.1 No such mailbox here"


def test_a_mail_server_that_is_away_is_tried_again(run, mailbox, settings):
    settings.EMAIL_PORT = free_port()
    job = run("send_email", WELCOME)
    assert (job.state, job.error_code) == ("RETRY", "ConnectionRefusedError")


def test_a_message_that_was_sent_is_not_sent_again_when_only_its_settlement_was_lost(run, attempt, mailbox):
    job = attempt(run("send_email", WELCOME))
    sent = job.result
    force_state(job, "RETRY", result=None)
    assert attempt(job).result == sent
    assert deliveries(mailbox, sent["message_id"]) == ["refused", "accepted"]


def test_text_of_any_language_arrives_as_it_was_given(run, attempt, mailbox):
    job = attempt(run("send_email", {"to": "ada@bücher.example", "subject": "Grüße 🎉", "body": "Zeile\n.\nЕнд"}))
    [message] = messages(mailbox, job.result["message_id"])
    assert message.get_payload(decode=True).decode().replace("\r\n", "\n").rstrip("\n") == "Zeile\n.\nЕнд"
    assert message["To"] == "ada@xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("to", "ada"),
        ("to", "ada@example.com\nBcc: eve@example.com"),
        ("to", "ada@example.com, eve@example.com"),
        ("to", "ädä@example.com"),
        ("subject", "Welcome\nBcc: eve@example.com"),
        ("subject", "Welcome\rBcc: eve@example.com"),
        ("subject", "Welcome\u2028Bcc: eve@example.com"),
        ("subject", ""),
        ("body", 5),
    ],
)
@pytest.mark.django_db
def test_what_cannot_be_sent_is_refused_at_submit_by_the_fields_name(field, value):
    with pytest.raises(InvalidJob) as refused:
        submit("send_email", WELCOME | {field: value})
    assert refused.value.field == f"/payload/{field}"


@given(st.text(max_size=255))
def test_every_key_makes_a_legal_message_id_and_always_the_same(key):
    message_id = message_id_for(key, "ada@example.com")
    assert re.fullmatch(r"<[0-9a-f]{32}@[a-z0-9.-]+>", message_id)
    assert message_id == message_id_for(key, "ada@example.com")
    assert message_id != message_id_for(key, "eve@example.com")


def test_every_failed_delivery_is_an_attempt_on_record(run, attempt, mailbox):
    job = attempt(run("send_email", WELCOME))
    assert list(Attempt.objects.filter(job=job).values_list("number", "outcome")) == [(1, "RETRY")]
