"""How long a failed job waits: arithmetic only."""


def retry_delay(retries: int, *, base: float, factor: float, cap: float, jitter: float, chance: float) -> float:
    """Seconds before the next try after `retries` earlier retries; `chance` is a random number in [0, 1).

    Capped exponential backoff with added jitter, after "Exponential Backoff And Jitter" (AWS
    Architecture Blog, 2015); jitter only adds, so the configured delay is the least one waits.
    """
    return _capped_power(base, factor, retries, cap) * (1 + jitter * chance)


def death_delay(deaths: int) -> float:
    """Seconds before a job whose process died `deaths` times runs again: 1, 3, 7, ... at most 60."""
    return float(min(60, 2 ** min(deaths, 10) - 1))


def _capped_power(base: float, factor: float, exponent: int, cap: float) -> float:
    try:
        return min(cap, base * factor**exponent)
    except OverflowError:
        return cap
