"""Our own connection to PostgreSQL after its use was interrupted in the middle of a statement."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from jobs.connections import own

pytestmark = pytest.mark.django_db(transaction=True)


class OutOfTime(Exception):
    pass


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """As a soft time limit does it: an exception from a signal handler, wherever the process is by then."""

    def ring(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_statement_that_a_time_limit_interrupts_does_not_spoil_the_next() -> None:
    with alarm(0.3), suppress(OutOfTime):
        own().rows("SELECT pg_sleep(60)", {})
    asleep = "SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'"
    [(pid,)] = own().rows(asleep, {})
    assert own().rows("SELECT pg_terminate_backend(%(pid)s, 5000)", {"pid": pid}) == [(True,)]
