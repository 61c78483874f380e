"""A worker that lives, is connected and takes nothing has lost its consumer."""

from jobs.models import Job
from jobs.stalls import EXIT_STALLED
from jobs.submission import submit
from tests.fleet import Fleet
from tests.waiting import eventually, settled, started


def test_a_worker_whose_consumer_is_lost_ends_and_its_jobs_are_given_back(crew: Fleet) -> None:
    """One slot is busy, one is free and tickets wait; these workers wait 4 s where others wait 60 and 30."""
    crew.environment["TRAPS"] = "stall"
    crew.worker("w", size=2, include="tests.chaos.inside")
    running = started(submit("chaos_sleep", {"seconds": 100}))
    Job.objects.filter(pk=running.pk).update(payload={"seconds": 0})
    waiting = [submit("chaos_sleep")]

    def has_ended() -> bool:
        """As long as tickets are taken there is always another one."""
        waiting[-1].refresh_from_db()
        if waiting[-1].is_final:
            waiting.append(submit("chaos_sleep"))
        return crew.processes["w"].poll() is not None

    eventually(has_ended, within=60, what="the watchdog to end the worker")
    assert crew.processes["w"].returncode == EXIT_STALLED
    assert "consumer stalled" in crew.log("w")
    crew.environment["TRAPS"] = ""
    crew.worker("w", size=2, include="tests.chaos.inside")
    settled(running)
    assert (running.state, running.attempt, running.deaths) == ("SUCCESS", 2, 0)
    assert running.attempts.get().outcome == "RELEASED"
    assert {(settled(job).state, job.attempt) for job in waiting} == {("SUCCESS", 1)}
