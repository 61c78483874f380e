"""Queues that are paused, and jobs whose time runs out there."""

from datetime import timedelta

import pytest
from django.db.models import Sum
from django.utils import timezone

from jobs.cancellation import reinstate
from jobs.errors import Conflict
from jobs.models import Event, Job
from jobs.pausing import pause, resume
from jobs.submission import submit
from tests.site import Site, finished, in_state, many, republished, reread, summary
from tests.waiting import eventually

ONCE = {("SUCCESS", 1)}


@pytest.fixture(scope="module", autouse=True)
def _dispatcher(site: Site) -> None:
    site.fleet.dispatcher()


def test_a_paused_queue_starts_nothing_over_a_worker_restart_and_costs_no_extra_ticket(site: Site) -> None:
    """Scenario 47."""
    jobs = many(500, queue="low")
    pause("low", actor="tester", reason="scenario 47")
    assert site.waiting("low") == 500
    site.fleet.worker("w1")
    others = many(20)
    assert summary(finished(others, within=30)) == ONCE
    site.fleet.kill("w1")
    site.fleet.worker("w2")
    # Time for the dispatcher to suspect and to republish, if it were so minded: a sweep takes 0.25 s, the grace is 2 s.
    finished([submit("flaky", {"failures": 0}, delay=4)], within=30)
    assert in_state("PENDING", jobs) == 500
    assert site.waiting("low") == 500
    resume("low", actor="tester")
    assert summary(finished(jobs, within=60)) == ONCE
    assert republished(jobs) == set()
    assert Job.objects.filter(queue="low").aggregate(all=Sum("dispatch_no"))["all"] == 500
    with pytest.raises(Conflict):
        resume("low", actor="tester")
    site.fleet.kill("w2")
    del site.fleet.processes["w1"], site.fleet.processes["w2"]


def test_a_pause_under_a_busy_worker_lets_running_jobs_finish_and_starts_no_more(site: Site) -> None:
    """Scenario 47, from the other side: the worker has tickets in its hands when the pause comes."""
    site.fleet.worker("w3")
    jobs = many(300, queue="low")
    eventually(lambda: in_state("SUCCESS", jobs) > 30, within=30, what="some jobs to finish")
    pause("low", actor="tester", reason="")
    eventually(lambda: in_state("STARTED", jobs) == 0, within=15, what="running jobs to finish")
    done = in_state("SUCCESS", jobs)
    assert done < 300
    finished([submit("flaky", {"failures": 0}, delay=3)], within=30)
    assert in_state("SUCCESS", jobs) == done
    resume("low", actor="tester")
    assert summary(finished(jobs, within=60)) == ONCE
    assert republished(jobs) == set()
    site.fleet.kill("w3")
    del site.fleet.processes["w3"]


def test_a_job_whose_time_runs_out_is_revoked_once_without_a_ticket_and_runs_when_reinstated(site: Site) -> None:
    """Scenario 53."""
    past = timezone.now() - timedelta(seconds=5)
    soon = timezone.now() + timedelta(seconds=1)
    pause("low", actor="tester", reason="scenario 53")
    no_worker = submit("flaky", {"failures": 0}, delay=0.1, expires_at=past)
    in_pause = submit("flaky", {"failures": 0}, queue="low", delay=0.5, expires_at=soon)
    never_due = submit("flaky", {"failures": 0}, delay=3600, expires_at=soon)
    jobs = finished([no_worker, in_pause, never_due], within=30)
    assert {(job.state, job.error_code, job.attempt, job.dispatch_no) for job in jobs} == {("REVOKED", "EXPIRED", 0, 0)}
    assert Event.objects.filter(job__in=jobs, verb="expired").count() == 3
    assert (site.waiting(), site.waiting("low")) == (0, 0)
    for job in jobs:
        reinstate(job.pk, actor="tester")
    resume("low", actor="tester")
    site.fleet.worker("w4")
    assert summary(finished(jobs, within=45)) == ONCE
    assert {job.expires_at for job in reread(jobs)} == {None}
    assert Event.objects.filter(job__in=jobs, verb="expired").count() == 3


def test_a_ticket_for_a_job_that_expired_meanwhile_starts_nothing(site: Site) -> None:
    """Scenario 53: the ticket was out before the time ran out, and no dispatcher was quick enough."""
    jobs = many(5, queue="high", expires_at=timezone.now() + timedelta(seconds=30))
    assert summary(finished(jobs, within=30)) == ONCE
    site.fleet.kill("w4")
    late = many(5, expires_at=timezone.now() + timedelta(seconds=1))
    assert site.waiting() == 5
    eventually(lambda: in_state("REVOKED", late) == 5, within=15, what="them to expire in front of no worker")
    site.fleet.worker("w5")
    eventually(lambda: site.waiting() == 0, within=30, what="their tickets to be taken")
    assert summary(finished([submit("flaky", {"failures": 0})], within=30)) == ONCE
    assert summary(reread(late)) == {("REVOKED", 0)}
