"""A worker that lives, is connected and takes nothing has lost its consumer."""

from jobs.models import Job
from jobs.stalls import EXIT_STALLED
from jobs.submission import submit
from tests.fleet import Fleet
from tests.waiting import settled, started


def test_a_worker_whose_consumer_is_lost_ends_and_its_jobs_are_given_back(crew: Fleet) -> None:
    """One slot is busy, one is free and a ticket waits; this worker waits 4 s where others wait 60 and 30."""
    crew.environment["TRAPS"] = "stall"
    crew.worker("w", size=2, include="tests.chaos.inside")
    running = started(submit("chaos_sleep", {"seconds": 200}))
    Job.objects.filter(pk=running.pk).update(payload={"seconds": 0})
    assert settled(submit("chaos_sleep")).state == "SUCCESS"
    waiting = submit("chaos_sleep")
    assert crew.processes["w"].wait(60) == EXIT_STALLED
    assert "consumer stalled" in crew.log("w")
    crew.environment["TRAPS"] = ""
    crew.worker("w", size=2, include="tests.chaos.inside")
    settled(running)
    assert (running.state, running.attempt, running.deaths) == ("SUCCESS", 2, 0)
    assert running.attempts.get().outcome == "RELEASED"
    assert (settled(waiting).state, waiting.attempt) == ("SUCCESS", 1)
