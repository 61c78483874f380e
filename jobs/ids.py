"""Time-ordered ids."""

import os
import time
import uuid


def uuid7() -> uuid.UUID:
    """A UUIDv7 after RFC 9562, section 5.7: 48 bits of milliseconds, then random bits.

    Python gets its own in 3.14. Order holds between milliseconds, not within one; nothing relies on it.
    """
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)
