"""Sixty seconds: 1,000 jobs, a worker killed among them, nothing lost; then one dead letter shown and replayed."""

import os
import signal
import time

from django.core.management import call_command

from deadletters.models import DeadLetter
from jobs.models import Attempt, Job, Worker
from tests.operations.shows import stage
from tests.waiting import eventually

COUNT = 1000
NAMES = ("jobs_submitted_total", "jobs_succeeded_total", "attempts_retried_total", "attempt_deaths_total")


def main(arguments: list[str]) -> None:
    with stage.fleet(LOG_FORMAT="json") as fleet:
        for name in ("a", "b"):
            fleet.launch_worker(name, queues="high,default,low,solo,system", size=4)
        fleet.dispatcher()
        for name in ("a", "b"):
            fleet.enlisted(name)
        began = time.monotonic()
        stage.say(f"two workers of four processes; submitting {COUNT:,} jobs, every tenth fails once, one for good")
        # Its tries are 2, 4 and 8 seconds apart: in the line behind the others it would be the last of all.
        stage.submit(1, "flaky", {"failures": 9}, queue="high")
        stage.submit(COUNT // 10, "flaky", {"failures": 1})
        stage.submit(COUNT - COUNT // 10 - 1, "slow", {"seconds": 0.05})
        running = Job.objects.filter(state="STARTED", worker_id=Worker.objects.get(name="a@test").pk)
        eventually(lambda: running.filter(task="slow").count() >= 3, within=60, what="worker a to be busy")
        stage.say(f"killing worker a (SIGKILL to pid {fleet.pid('a')}) with {running.count()} jobs in its hands")
        os.kill(fleet.pid("a"), signal.SIGKILL)
        fleet.processes["a"].wait()
        eventually(lambda: stage.unfinished() == 0, within=180, what="all jobs to end")
        counts = {name: stage.metric(name) for name in NAMES}
        stage.say("metrics: " + ", ".join(f"{name} {value:,.0f}" for name, value in counts.items()))
        died = Attempt.objects.filter(outcome="LOST").values("job").distinct().count()
        stage.say(f"{died} jobs died with the worker; all of them ran again on worker b")
        letter = DeadLetter.objects.get()
        call_command("dlq", "show", str(letter.pk))
        call_command("dlq", "replay", str(letter.pk), "--reason", "mended", "--payload", '{"failures": 0}')
        job = Job.objects.get(pk=letter.job_id)
        eventually(lambda: Job.objects.filter(pk=job.pk, state="SUCCESS").exists(), within=60, what="the replay")
        stage.say(f"letter {letter.pk} replayed: job {job.pk} is SUCCESS, same id, same key")
        stage.verdict(
            nothing_is_lost=Job.objects.filter(state="SUCCESS").count() == COUNT,
            the_kill_is_visible_in_the_metrics=counts["attempt_deaths_total"] >= died > 0,
            the_retries_are_visible_in_the_metrics=counts["attempts_retried_total"] >= COUNT // 10,
            the_replay_is_counted=stage.metric("jobs_replayed_total") == 1,
            within_sixty_seconds=time.monotonic() - began < 60,
        )
