"""All workers replaced one by one under load, with TERM: no death counted, nothing lost."""

import signal
import threading

from jobs.models import Attempt, Job
from tests.operations.shows import stage
from tests.waiting import eventually

WORKERS, SIZE, ROUNDS = 3, 3, 2
PER_SECOND, JOB_SECONDS = 12, 0.4


def main(arguments: list[str]) -> None:
    with stage.fleet(LEASE_SECONDS="10") as fleet:
        fleet.dispatcher()
        names = [f"w{number}" for number in range(WORKERS)]
        for name in names:
            fleet.worker(name, size=SIZE)
        stop = threading.Event()
        load = threading.Thread(target=submit_until, args=(stop,))
        load.start()
        stage.say(f"{WORKERS} workers of {SIZE}, {PER_SECOND} jobs of {JOB_SECONDS} s a second")
        try:
            for generation in range(1, ROUNDS + 1):
                for index, name in enumerate(names):
                    names[index] = replaced(fleet, name, f"w{index}-{generation}")
        finally:
            stop.set()
            load.join()
        eventually(lambda: stage.unfinished() == 0, within=120, what="all jobs to end")
        total = Job.objects.count()
        released = Attempt.objects.filter(outcome="RELEASED").count()
        stage.say(f"{total:,} jobs, {WORKERS * ROUNDS} workers replaced, {released} attempts given back")
        stage.verdict(
            zero_lost=Job.objects.filter(state="SUCCESS").count() == total,
            zero_deaths=stage.metric("attempt_deaths_total") == 0 == Attempt.objects.filter(outcome="LOST").count(),
        )


def replaced(fleet: stage.Fleet, old: str, new: str) -> str:
    fleet.worker(new, size=SIZE)
    code = fleet.kill(old, signal.SIGTERM)
    stage.say(f"{old} ended with {code}, {new} is up, {stage.unfinished()} jobs unfinished")
    return new


def submit_until(stop: threading.Event) -> None:
    while not stop.wait(1.0):
        stage.submit(PER_SECOND, "slow", {"seconds": JOB_SECONDS})
