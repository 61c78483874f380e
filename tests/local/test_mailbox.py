import json
import smtplib
from email.message import EmailMessage

import pytest

from local.mailbox import falls_within

REFUSED_FIRST = next(f"<{n}@test>" for n in range(1000) if falls_within(f"<{n}@test>", 0.1))
TAKEN_FIRST = next(f"<{n}@test>" for n in range(1000) if not falls_within(f"<{n}@test>", 0.1))


@pytest.fixture
def mail_directory(place):
    return place / "mail"


@pytest.fixture
def start(spawn, wait_for, port, mail_directory):
    def start():
        process = spawn("-m", "local.mailbox", "--port", str(port), "--directory", str(mail_directory))
        assert "listening" in process.stdout.readline()
        return process

    return start


@pytest.fixture
def send(port):
    def send(message_id, *, to="ada@example.com", body="Hello"):
        message = EmailMessage()
        message["Message-ID"], message["From"], message["To"] = message_id, "me@example.com", to
        message.set_content(body)
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.send_message(message)

    return send


def outcomes(directory):
    return [json.loads(line)["outcome"] for line in (directory / "deliveries.jsonl").read_text().splitlines()]


def test_an_accepted_message_is_kept_as_a_file(start, send, mail_directory):
    start()
    send(TAKEN_FIRST, body="Hello Ada")
    [kept] = mail_directory.glob("*.eml")
    assert "Hello Ada" in kept.read_text()


def test_a_refused_first_delivery_is_accepted_the_second_time(start, send, mail_directory):
    start()
    with pytest.raises(smtplib.SMTPDataError) as refused:
        send(REFUSED_FIRST)
    assert refused.value.smtp_code == 451
    assert list(mail_directory.glob("*.eml")) == []
    send(REFUSED_FIRST)
    assert len(list(mail_directory.glob("*.eml"))) == 1
    assert outcomes(mail_directory) == ["refused", "accepted"]


def test_a_message_delivered_twice_is_counted_twice_and_kept_once(start, send, mail_directory):
    start()
    send(TAKEN_FIRST, body="first")
    send(TAKEN_FIRST, body="second")
    [kept] = mail_directory.glob("*.eml")
    assert "second" in kept.read_text()
    assert outcomes(mail_directory) == ["accepted", "accepted"]


def test_a_restart_remembers_what_was_refused(start, send):
    process = start()
    with pytest.raises(smtplib.SMTPDataError):
        send(REFUSED_FIRST)
    process.terminate()
    assert process.wait() == 0
    start()
    send(REFUSED_FIRST)


def test_a_recipient_of_the_refused_domain_is_refused_for_good(start, send):
    start()
    for _ in range(2):
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            send(TAKEN_FIRST, to="nobody@refused.example")
        assert refused.value.recipients["nobody@refused.example"][0] == 550


def test_one_identity_in_ten_is_refused():
    assert 900 < sum(falls_within(f"<{n}@share>", 0.1) for n in range(10_000)) < 1100
