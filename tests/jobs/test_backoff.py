"""The arithmetic of waiting, as a table."""

import pytest

from jobs.backoff import death_delay, retry_delay

DEFAULT = {"base": 2, "factor": 2, "cap": 600, "jitter": 0.3}


@pytest.mark.parametrize(("retries", "seconds"), [(0, 2), (1, 4), (2, 8), (3, 16), (4, 32), (9, 600), (5000, 600)])
def test_delays_double_up_to_the_cap(retries: int, seconds: float) -> None:
    assert retry_delay(retries, **DEFAULT, chance=0.0) == seconds


def test_jitter_only_ever_adds() -> None:
    assert retry_delay(0, **DEFAULT, chance=0.5) == pytest.approx(2.3)
    assert retry_delay(9, **DEFAULT, chance=0.999) < 600 * 1.3


@pytest.mark.parametrize(("deaths", "seconds"), [(1, 1), (2, 3), (3, 7), (6, 60), (10_000, 60)])
def test_deaths_wait_longer_each_time_up_to_a_minute(deaths: int, seconds: float) -> None:
    assert death_delay(deaths) == seconds
