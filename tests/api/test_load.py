"""200 requests per second of mixed submits and statuses. The whole minute is `python -m tests.api.load`."""

import asyncio

from tests.api.load import load

RATE, SECONDS = 200, 10
# The goal is 100 ms; other tests may run on the same two cores, and take them for a while.
P95, TRIES = 0.3, 3


def test_two_hundred_requests_a_second_are_answered_in_time(web: str, secret: str) -> None:
    results = []
    for _ in range(TRIES):
        results.append(asyncio.run(load(web, secret, rate=RATE, seconds=SECONDS, idle=True)))
        assert results[-1].errors == [] and len(results[-1].seconds) == RATE * SECONDS
        if results[-1].percentile(95) < P95:
            return
    raise AssertionError("; ".join(map(str, results)))
