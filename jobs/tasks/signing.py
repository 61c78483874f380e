"""The signature of our webhooks. Standard library only: receivers may copy this file as it is.

Every delivery carries the header `X-Switchyard-Signature: t=1764547200,v1=5f2b...`, where v1 is the
HMAC-SHA256, in hex, of the time, a full stop and the raw body, under the shared WEBHOOK_SECRET.
"""

import hashlib
import hmac
import time

HEADER = "X-Switchyard-Signature"
TOLERANCE_SECONDS = 300


def sign(body: bytes, secret: str, *, timestamp: int) -> str:
    """The header's value for a body sent at `timestamp` (seconds since 1970)."""
    return f"t={timestamp},v1={_digest(body, secret, str(timestamp))}"


def verify(
    body: bytes, header: str, secret: str, tolerance: float = TOLERANCE_SECONDS, *, now: float | None = None
) -> bool:
    """Whether the holder of the secret signed this raw body, at most `tolerance` seconds ago or ahead.

    Verify the bytes as received, before parsing them. Any one valid v1 is enough, so that a sender
    may sign with two secrets while one replaces the other.
    """
    fields = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in fields if name == "t"]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdecimal() and len(times[0]) <= 12):
        return False
    if abs((time.time() if now is None else now) - int(times[0])) > tolerance:
        return False
    wanted = _digest(body, secret, times[0]).encode()
    return any(hmac.compare_digest(wanted, value.encode()) for name, _, value in fields if name == "v1")


def _digest(body: bytes, secret: str, timestamp: str) -> str:
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
