"""Time-ordered ids."""

import os
import time
import uuid

RANDOM_BYTES, READ_AHEAD = 10, 256
# Random bytes for the next ids, read together: the system call takes longer than all the rest.
_spare: list[bytes] = []
os.register_at_fork(after_in_child=_spare.clear)


def uuid7() -> uuid.UUID:
    """A UUIDv7 after RFC 9562, section 5.7: 48 bits of milliseconds, then random bits.

    Python gets its own in 3.14. Order holds between milliseconds, not within one; nothing relies on it.
    """
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(_random_bytes(), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)


def _random_bytes() -> bytes:
    """Each is handed out once: taking from a list is atomic between threads, and a fork forgets them."""
    try:
        return _spare.pop()
    except IndexError:
        found = os.urandom(RANDOM_BYTES * READ_AHEAD)
    _spare.extend(found[place : place + RANDOM_BYTES] for place in range(RANDOM_BYTES, len(found), RANDOM_BYTES))
    return found[:RANDOM_BYTES]
