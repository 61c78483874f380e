"""Time-ordered ids."""

import os
import time
import uuid

READ_AHEAD = 256
VERSION, VARIANT = 0x7 << 76, 0x2 << 62
UNKNOWN = uuid.SafeUUID.unknown
RANDOM = (0xFFF << 64) | (1 << 62) - 1
# The random bits of the next ids, read together: the system call takes longer than all the rest.
_spare: list[int] = []
os.register_at_fork(after_in_child=_spare.clear)


def uuid7() -> uuid.UUID:
    """A UUIDv7 after RFC 9562, section 5.7: 48 bits of milliseconds, then random bits.

    Python gets its own in 3.14, and like that one this goes past UUID.__init__, which looks at six ways to be
    called. Order holds between milliseconds, not within one; nothing relies on it.
    """
    made = object.__new__(uuid.UUID)
    object.__setattr__(made, "int", time.time_ns() // 1_000_000 << 80 | VERSION | VARIANT | _random_bits())
    object.__setattr__(made, "is_safe", UNKNOWN)
    return made


def _random_bits() -> int:
    """Each is handed out once: taking from a list is atomic between threads, and a fork forgets them."""
    try:
        return _spare.pop()
    except IndexError:
        found = os.urandom(10 * READ_AHEAD)
    _spare.extend(int.from_bytes(found[at : at + 10], "big") & RANDOM for at in range(10, len(found), 10))
    return int.from_bytes(found[:10], "big") & RANDOM
