"""Somebody is paged: a queue of 50 grows to 30,000 under slow consumers, and `manage.py watch` tells it in time."""

import time
from concurrent.futures import ThreadPoolExecutor

from tests.operations.hooks import Hook, hook
from tests.operations.shows import stage
from tests.waiting import eventually

STEADY, MANY = 50, 30_000
STEADY_SECONDS, GROWING_SECONDS, ALLOWED_SECONDS = 60, 150, 180
ALERT = "FIRING QueueGrowing"


def main(arguments: list[str]) -> None:
    with hook() as ears, stage.fleet(WATCH_WEBHOOK_URL=ears.url) as fleet:
        fleet.dispatcher()
        fleet.worker("w", size=2)
        fleet.start("watch", ["manage.py", "watch", "--name", "watch@test"], row="watch@test")
        stage.submit(STEADY, "slow", {"seconds": 1})
        stage.say(f"two processes with jobs of a second; about {STEADY} of them wait, for {STEADY_SECONDS} s")
        steady(time.monotonic() + STEADY_SECONDS)
        early, changed = ears.told(ALERT), time.monotonic()
        stage.say(f"from now on {MANY // GROWING_SECONDS} jobs a second")
        with ThreadPoolExecutor(1) as aside:
            depth = aside.submit(grow, changed)
            eventually(lambda: ears.told(ALERT), within=ALLOWED_SECONDS * 2, what="the alert")
        tell(ears, changed, early, depth.result())


def tell(ears: Hook, changed: float, early: float | None, depth: int) -> None:
    after = (ears.told(ALERT) or float("inf")) - changed
    stage.say(next(text for text in ears.texts if text.startswith(ALERT)))
    stage.say(f"told {after:.0f} s after the change; {depth:,} jobs are unfinished by now")
    stage.verdict(
        nobody_is_paged_for_a_steady_queue=early is None,
        the_page_comes_within_three_minutes=after <= ALLOWED_SECONDS,
        the_queue_is_30_000_deep=depth >= MANY,
    )


def steady(until: float) -> None:
    """What is worked off is filled up again."""
    while time.monotonic() < until:
        if missing := STEADY - stage.unfinished():
            stage.submit(missing, "slow", {"seconds": 1})
        time.sleep(1)


def grow(began: float) -> int:
    """Until MANY are unfinished at once; how many they are."""
    sent = 0
    while (depth := stage.unfinished()) < MANY:
        due = int((time.monotonic() - began) * MANY / GROWING_SECONDS) - sent
        stage.submit(due, "slow", {"seconds": 1})
        sent += due
        time.sleep(0.5)
    return depth
