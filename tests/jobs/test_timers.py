"""What is called off leaves the event loop's list of timers, and what is not stays in its order."""

from kombu.asynchronous.timer import Timer

from jobs.timers import tidy


def test_timers_that_were_called_off_are_forgotten_and_the_others_still_come_in_order() -> None:
    timer, came = Timer(), []
    entries = [timer.call_after(-1 - (number * 7) % 100, came.append, (number,)) for number in range(100)]
    for entry in entries[::2]:
        entry.cancel()
    assert len(timer._queue) == 100, "kombu forgets them itself by now: jobs.timers can go"
    tidy(timer)
    assert len(timer._queue) == 50
    while timer._queue:
        _, entry = next(iter(timer))
        entry()
    assert sorted(came) == list(range(1, 100, 2))
    assert came == sorted(came, key=lambda number: -((number * 7) % 100))
