"""Send an email."""

import hashlib
import re
import smtplib
from email.utils import parseaddr
from typing import Annotated, Any

from celery import shared_task
from django.conf import settings
from django.core.mail import EmailMessage
from pydantic import AfterValidator, EmailStr, Field

from jobs.errors import Abandon
from jobs.task import JobTask

LINE_BREAKS_AND_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _plain_local_part(address: str) -> str:
    """Django would rewrite another one into an address that is nobody's."""
    if not address.rpartition("@")[0].isascii():
        raise ValueError("must be plain ASCII before the @")
    return address


def _one_line(text: str) -> str:
    if LINE_BREAKS_AND_CONTROLS.search(text):
        raise ValueError("must not contain line breaks or control characters")
    return text


Recipient = Annotated[EmailStr, AfterValidator(_plain_local_part)]
Subject = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_one_line)]


@shared_task(base=JobTask, name="send_email", bind=True)
def send_email(self: JobTask, to: Recipient, subject: Subject, body: str) -> dict[str, Any]:
    """Send one message under a Message-ID that every attempt shares, so that mail servers can tell repeats."""
    message_id = message_id_for(self.job.idempotency_key, to)
    message = EmailMessage(subject, body, to=[to], headers={"Message-ID": message_id})
    self.job.once(f"sent {message_id}", lambda: _send(message))
    return {"status": "sent", "to": to, "subject": subject, "message_id": message_id}


def message_id_for(key: str, to: str) -> str:
    """A legal Message-ID for any key; the recipient counts too, because a replay may correct it."""
    digest = hashlib.sha256(f"{key}\0{to}".encode()).hexdigest()[:32]
    domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2] or "localhost"
    return f"<{digest}@{domain.encode('idna').decode()}>"


def _send(message: EmailMessage) -> int:
    """Refusals that will not change end the job; everything else, lost connections too, is worth another try."""
    try:
        return message.send()
    except smtplib.SMTPRecipientsRefused as error:
        [(code, said)] = error.recipients.values()
        _abandon_if_permanent(code, said, error)
        raise
    except smtplib.SMTPResponseException as error:
        _abandon_if_permanent(error.smtp_code, error.smtp_error, error)
        raise
    except smtplib.SMTPNotSupportedError as error:
        raise Abandon(f"The mail server cannot take this message: {error}") from error


def _abandon_if_permanent(code: int, said: bytes | str, error: Exception) -> None:
    if 500 <= code < 600:
        text = said.decode(errors="replace") if isinstance(said, bytes) else said
        raise Abandon(f"The mail server refused the message for good: {code} {text}") from error
