"""The sandbox SMTP server: keeps what it accepts as .eml files and refuses some first deliveries."""

import argparse
import asyncio
import hashlib
import json
import re
import time
from collections import Counter
from contextlib import suppress
from email import message_from_bytes
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

from local.children import stop_on_sigterm


class Mailbox:
    """Answers by Message-ID: a message's second delivery is always accepted, and replaces its file."""

    def __init__(self, directory: Path, *, refuse: float, refuse_permanently: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.refuse = refuse
        self.refused_domain = f"@{refuse_permanently}"
        self.record = directory / "deliveries.jsonl"
        self.deliveries: Counter[str] = Counter(entry["message_id"] for entry in self._entries())

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address.lower().endswith(self.refused_domain):
            return "550 5.1.1 No such mailbox here"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        content = envelope.original_content or b""
        message_id = message_from_bytes(content)["Message-ID"] or f"<{hashlib.sha256(content).hexdigest()}>"
        is_first = not self.deliveries[message_id]
        accepted = not (is_first and falls_within(message_id, self.refuse))
        if accepted:
            self._keep(message_id, content)
        self._note(message_id, envelope.rcpt_tos, "accepted" if accepted else "refused")
        return "250 2.0.0 OK" if accepted else "451 4.3.0 Refused for now, try again"

    def _keep(self, message_id: str, content: bytes) -> None:
        name = re.sub(r"[^\w.@-]", "", message_id, flags=re.ASCII)[:100]
        path = self.directory / f"{name}-{hashlib.sha256(message_id.encode()).hexdigest()[:8]}.eml"
        draft = path.with_suffix(".new")
        draft.write_bytes(content)
        draft.replace(path)

    def _note(self, message_id: str, recipients: list[str], outcome: str) -> None:
        self.deliveries[message_id] += 1
        entry = {"at": time.time(), "message_id": message_id, "to": recipients, "outcome": outcome}
        with self.record.open("a") as record:
            record.write(json.dumps(entry) + "\n")
        print(f"{outcome} {message_id} for {', '.join(recipients)}", flush=True)

    def _entries(self) -> list[dict[str, str]]:
        if not self.record.exists():
            return []
        return [json.loads(line) for line in self.record.read_text().splitlines()]


def falls_within(identity: str, share: float) -> bool:
    """A coin that lands alike every time for the same identity: true for this share of all identities."""
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8]) < share * 2**64


async def serve(mailbox: Mailbox, port: int) -> None:
    def session() -> SMTP:
        return SMTP(mailbox, enable_SMTPUTF8=True, ident="Switchyard sandbox")

    server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", port)
    print(f"listening on 127.0.0.1:{port}", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--refuse", type=float, default=0.1, help="share of first deliveries refused with 451")
    parser.add_argument("--refuse-permanently", default="refused.example", help="domain refused with 550")
    options = parser.parse_args()
    mailbox = Mailbox(options.directory, refuse=options.refuse, refuse_permanently=options.refuse_permanently)
    asyncio.run(serve(mailbox, options.port))


if __name__ == "__main__":
    stop_on_sigterm()
    with suppress(KeyboardInterrupt):
        main()
