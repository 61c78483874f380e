"""How many requests one caller may make, counted in Redis for all web processes together.

It protects the others from one client in a loop; it is not what keeps anybody out. So when Redis is away
everything is let through, and nobody waits for it.
"""

import logging
import math
import time
from functools import cache

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from api.problems import Problem

logger = logging.getLogger(__name__)
TIMEOUT = 0.1
QUIET_SECONDS = 3.0

# The generic cell rate algorithm: one number per caller, the moment at which the bucket would be empty again.
# Redis keeps the clock, so hosts whose clocks differ agree.
ALLOW = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local interval, burst = 1 / ARGV[1], ARGV[2] / ARGV[1]
local due = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
if due - now + interval > burst then return tostring(due - now + interval - burst) end
redis.call('SET', KEYS[1], string.format('%.6f', due + interval), 'PX', math.ceil((due + interval - now) * 1000))
return '0'
"""


class _Gate:
    def __init__(self) -> None:
        client = redis.Redis.from_url(
            settings.REDIS_URL, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0)
        )
        self._allow = client.register_script(ALLOW)
        self._quiet_until = 0.0

    def wait(self, caller: str) -> float:
        """Seconds until this caller may, 0 for now."""
        if time.monotonic() < self._quiet_until:
            return 0.0
        try:
            given = [settings.API_RATE_PER_SECOND, settings.API_RATE_BURST]
            return float(self._allow(keys=[f"switchyard:rate:{caller}"], args=given))
        except redis.RedisError as error:
            self._quiet_until = time.monotonic() + QUIET_SECONDS
            logger.warning("rates not counted", extra={"reason": str(error)})
            return 0.0


@cache
def gate() -> _Gate:
    return _Gate()


def throttle(caller: str) -> None:
    """Count a request; raises Problem (429) when the caller has made too many."""
    if wait := gate().wait(caller):
        allowed = f"{settings.API_RATE_PER_SECOND:g} requests per second"
        headers = {"Retry-After": str(math.ceil(wait))}
        raise Problem("too-many-requests", f"A caller may make {allowed}; try again in {wait:.1f} s.", headers=headers)
