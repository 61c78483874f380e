"""Every write of a job's state. Each is one guarded UPDATE whose row count is looked at.

The claim and the settlements are SQL, prepared: they decide, move and record in one round trip, as the ORM cannot.
"""

from datetime import datetime
from typing import Any, NamedTuple, Self
from uuid import UUID

from django.db import models
from django.db.models.functions import Now

from jobs.states import FINAL, WAITING, State, sources

# What a replay or a reinstatement puts back; attempt, claim_token and worker_id stay.
FRESH: dict[str, Any] = {
    **dict.fromkeys(("retries", "deaths", "dispatch_no"), 0),
    **dict.fromkeys(("dispatched_at", "finished_at", "expires_at", "cancel_requested_at", "result", "progress")),
    **dict.fromkeys(("error_code", "error", "traceback", "fingerprint")),
}


class JobQuerySet(models.QuerySet):
    def move(self, target: State, **values: Any) -> int:
        """Move every job of this set that may go to `target` there; the number that went."""
        if target in FINAL:
            values.setdefault("finished_at", Now())
        return self.filter(state__in=sources(target)).update(state=target, **values)

    def cancel_waiting(self) -> int:
        return self.filter(state__in=WAITING).move(State.REVOKED, error_code="CANCELLED", cancel_requested_at=Now())

    def ask_running_to_stop(self) -> int:
        """Note the wish to cancel; the worker's parent ends the process on its next beat."""
        return self.filter(state=State.STARTED, cancel_requested_at=None).update(cancel_requested_at=Now())

    def expire(self) -> int:
        return self.filter(state__in=WAITING, expires_at__lte=Now()).move(
            State.REVOKED, error_code="EXPIRED", error="It was still waiting when its time ran out."
        )

    def retry_now(self) -> int:
        """Make jobs that wait for a retry, or for their time, due at once."""
        now = {"run_at": Now(), "dispatched_at": None}
        early = self.filter(state=State.PENDING, run_at__gt=Now())
        return self.filter(state=State.RETRY).move(State.PENDING, **now) + early.update(**now)

    def revive(self, *, state: State, **values: Any) -> int:
        """Run a FAILURE (replay) or REVOKED (reinstate) job again from the start, under its own id and key."""
        return self.filter(state=state).move(State.PENDING, run_at=Now(), **FRESH | values)

    def unfinished(self) -> Self:
        return self.filter(finished_at=None)


class Held(NamedTuple):
    """A job in the hands of an attempt: everything running and settling it needs, and nothing else."""

    id: UUID
    task: str
    queue: str
    payload: dict[str, Any]
    attempt: int
    claim_token: UUID
    retries: int
    max_retries: int
    deaths: int
    max_deaths: int
    worker_id: UUID
    child_pid: int | None
    child_ticks: int | None
    cancel_requested_at: datetime | None
    callback_url: str | None
    trace: dict[str, Any] | None
    key: str | None

    @property
    def idempotency_key(self) -> str:
        return self.key or str(self.id)


_HELD_COLUMNS = ", ".join(f"job.{name}" for name in Held._fields[:-1]) + ", key.key"
_KEYED = "AS job LEFT JOIN jobs_idempotencykey AS key ON key.job_id = job.id"
_HELD = f"SELECT {_HELD_COLUMNS} FROM jobs_job {_KEYED} WHERE job.state = 'STARTED' AND"

# What a claim writes, and on what conditions besides being due.
_TAKE = """SET state = 'STARTED', attempt = job.attempt + 1, claim_token = %(token)s, worker_id = %(worker)s,
         child_pid = %(pid)s, child_ticks = %(ticks)s, started_at = clock.now"""
# Clock and queue as expressions of their own: a join with them would cost the head of the queue its order.
_MAY_START = """job.run_at <= (SELECT now FROM clock) AND job.cancel_requested_at IS NULL
     AND (job.expires_at IS NULL OR job.expires_at > (SELECT now FROM clock))
     AND NOT EXISTS (SELECT FROM jobs_queue AS q WHERE q.name = {queue} AND q.paused_at IS NOT NULL)
     AND EXISTS (SELECT FROM jobs_worker AS w WHERE w.id = %(worker)s AND w.state = 'UP')"""

# One id, not a list: a plan prepared for a list while the table is small reads all of it when it is large.
CLAIM = f"""
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
claimed AS (
  UPDATE jobs_job AS job
     {_TAKE}
    FROM clock
   WHERE job.id = %(id)s AND job.state IN ('PENDING', 'RETRY')
     AND {_MAY_START.format(queue="job.queue")}
  RETURNING job.*
), refused AS (
  UPDATE jobs_job AS job SET dispatched_at = NULL
   WHERE job.id = %(id)s AND job.state IN ('PENDING', 'RETRY') AND job.dispatched_at IS NOT NULL
     AND NOT EXISTS (SELECT FROM claimed WHERE claimed.id = job.id)
)
SELECT {_HELD_COLUMNS} FROM claimed {_KEYED}
"""

# Many at once, from the head of a queue. A job that has died before comes alone: the first of the due, or
# all before the first that has died. The row in jobs_batch tells the parent where to look for them.
_CLAIM_DUE = f"""
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
due AS MATERIALIZED (
  SELECT job.id, job.run_at, job.deaths FROM jobs_job AS job
   WHERE job.finished_at IS NULL AND job.dispatched_at IS NULL AND job.state IN ('PENDING', 'RETRY')
     AND {{mine}} AND job.task = %(task)s AND {_MAY_START}
   ORDER BY job.run_at LIMIT %(size)s FOR UPDATE OF job SKIP LOCKED
), chosen AS (
  SELECT id FROM (SELECT id, row_number() OVER line AS place, max(deaths) OVER line AS deaths
                    FROM due WINDOW line AS (ORDER BY run_at, id)) AS lined
   WHERE place = 1 OR deaths = 0
), claimed AS (
  UPDATE jobs_job AS job
     {_TAKE}
    FROM clock, chosen WHERE job.id = chosen.id
  RETURNING job.*
), noted AS (
  INSERT INTO jobs_batch AS batch (worker_id, child_pid, queue, first_run_at, last_run_at)
  SELECT %(worker)s, %(pid)s, min(queue), min(run_at), max(run_at) FROM claimed HAVING count(*) > 0
  ON CONFLICT (worker_id, child_pid) DO UPDATE
    SET queue = EXCLUDED.queue, first_run_at = EXCLUDED.first_run_at, last_run_at = EXCLUDED.last_run_at
)
SELECT {_HELD_COLUMNS}, (SELECT count(*) FROM due) FROM claimed {_KEYED}
 ORDER BY job.run_at, job.id
"""
CLAIM_DUE = _CLAIM_DUE.format(mine="job.queue = %(queue)s AND job.deaths + 1 < job.max_deaths", queue="%(queue)s")
CLAIM_DUE_SOLO = _CLAIM_DUE.format(mine="job.deaths + 1 >= job.max_deaths", queue="job.queue")

# Jobs claimed together by this worker's processes: by the stretch of the queue they came from, no index has the worker.
HELD_IN_BATCHES = f"""
SELECT {_HELD_COLUMNS}
  FROM jobs_batch AS batch
  JOIN (jobs_job {_KEYED}) ON job.finished_at IS NULL AND job.dispatched_at IS NULL AND job.state = 'STARTED'
       AND job.queue = batch.queue AND job.run_at BETWEEN batch.first_run_at AND batch.last_run_at
       AND job.worker_id = batch.worker_id AND job.child_pid = batch.child_pid
 WHERE batch.worker_id = %(worker)s
"""

# After a claim whose answer was lost: did it land?
CLAIMED_WITH = f"{_HELD} job.id = %(id)s AND job.claim_token = %(token)s"
HELD_BY = f"{_HELD} job.finished_at IS NULL AND job.worker_id = ANY(%(workers)s)"
HELD_AMONG = f"{_HELD} job.id = ANY(%(ids)s) AND job.worker_id = %(worker)s"
# Jobs whose worker is DEAD, or has no row at all. Reads every unfinished row, so not on every sweep.
_LIVES = "EXISTS (SELECT FROM jobs_worker AS w WHERE w.id = job.worker_id AND w.state <> 'DEAD')"
HELD_BY_NOBODY = f"{_HELD} job.finished_at IS NULL AND NOT {_LIVES}"

_SUCCESS = """SET state = 'SUCCESS', finished_at = clock_timestamp(), result = {result}::jsonb,
       error_code = NULL, error = NULL, traceback = NULL, fingerprint = NULL"""
SUCCEED = f"""
UPDATE jobs_job AS job {_SUCCESS.format(result="%(result)s::text")}
 WHERE job.id = %(id)s AND job.state = 'STARTED' AND job.attempt = %(attempt)s AND job.claim_token = %(token)s
RETURNING job.id
"""
SUCCEED_TOGETHER = f"""
UPDATE jobs_job AS job {_SUCCESS.format(result="done.result")}
  FROM unnest(%(ids)b::uuid[], %(attempts)b::int[], %(tokens)b::uuid[], %(results)b::text[])
       AS done(id, attempt, token, result)
 WHERE job.id = done.id AND job.state = 'STARTED' AND job.attempt = done.attempt AND job.claim_token = done.token
RETURNING job.id
"""

# Claimed together and not begun. They keep their place in the line.
RELEASE = """
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
released AS (
  UPDATE jobs_job AS job
     SET state = CASE WHEN job.cancel_requested_at IS NULL THEN 'PENDING' ELSE 'REVOKED' END,
         finished_at = CASE WHEN job.cancel_requested_at IS NOT NULL THEN clock.now END,
         error_code = CASE WHEN job.cancel_requested_at IS NULL THEN 'RELEASED' ELSE 'CANCELLED' END,
         error = %(why)s, traceback = '', fingerprint = ''
    FROM clock, unnest(%(ids)s::uuid[], %(attempts)s::int[], %(tokens)s::uuid[]) AS given(id, attempt, token)
   WHERE job.id = given.id AND job.state = 'STARTED' AND job.attempt = given.attempt AND job.claim_token = given.token
  RETURNING job.*, clock.now
)
INSERT INTO jobs_attempt (job_id, number, outcome, due_at, started_at, ended_at, worker_id, worker_name, child_pid,
                          claim_token, error_code, error, traceback, fingerprint, delay)
SELECT id, attempt, CASE state WHEN 'REVOKED' THEN 'REVOKED' ELSE 'RELEASED' END, run_at, started_at, now, worker_id,
       coalesce((SELECT name FROM jobs_worker AS w WHERE w.id = released.worker_id), ''), child_pid,
       claim_token, error_code, error, traceback, fingerprint, CASE WHEN finished_at IS NULL THEN 0 END
  FROM released
RETURNING job_id, outcome
"""

# A wish to cancel wins over every way of going on (`yields`).
_CANCELLED = "(job.cancel_requested_at IS NOT NULL AND %(yields)s)"
_ENDS = f"({_CANCELLED} OR %(final)s)"

# An attempt that did not succeed.
END_ATTEMPT = f"""
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
before AS (SELECT id, run_at FROM jobs_job WHERE id = %(id)s),
ended AS (
  UPDATE jobs_job AS job
     SET state = CASE WHEN {_CANCELLED} THEN 'REVOKED' ELSE %(state)s END,
         finished_at = CASE WHEN {_ENDS} THEN clock.now END,
         retries = job.retries + CASE WHEN {_CANCELLED} THEN 0 ELSE %(retried)s END,
         deaths = job.deaths + CASE WHEN {_CANCELLED} THEN 0 ELSE %(died)s END,
         run_at = CASE WHEN {_ENDS} THEN job.run_at ELSE clock.now + make_interval(secs => %(delay)s) END,
         dispatched_at = CASE WHEN {_ENDS} THEN job.dispatched_at END,
         error_code = %(error_code)s, error = %(error)s, traceback = %(traceback)s, fingerprint = %(fingerprint)s
    FROM clock, before
   WHERE job.id = %(id)s AND before.id = job.id AND job.state = 'STARTED'
     AND job.attempt = %(attempt)s AND job.claim_token = %(token)s
  RETURNING job.*, before.run_at AS due_at, clock.now
)
INSERT INTO jobs_attempt (job_id, number, outcome, due_at, started_at, ended_at, worker_id, worker_name, child_pid,
                          claim_token, error_code, error, traceback, fingerprint, signal, exit_code, delay)
SELECT id, attempt, CASE WHEN state = 'REVOKED' THEN 'REVOKED' ELSE %(outcome)s END, due_at, started_at, now,
       worker_id, coalesce((SELECT name FROM jobs_worker AS w WHERE w.id = ended.worker_id), ''), child_pid,
       claim_token, error_code, error, traceback, fingerprint, %(signal)s::int, %(exit_code)s::int,
       CASE WHEN finished_at IS NULL THEN %(delay)s::float END
  FROM ended
RETURNING outcome, worker_name
"""

# Did an earlier settlement of mine, whose answer was lost, land?
LANDED = """
SELECT job.state FROM jobs_job AS job
 WHERE job.id = %(id)s AND job.attempt = %(attempt)s AND job.claim_token = %(token)s AND job.state = %(state)s
   AND job.finished_at IS NOT NULL
UNION ALL
SELECT a.outcome FROM jobs_attempt AS a
 WHERE a.job_id = %(id)s AND a.number = %(attempt)s AND a.claim_token = %(token)s
   AND a.outcome IN (%(outcome)s, CASE WHEN %(state)s = 'SUCCESS' THEN '' ELSE 'REVOKED' END)
"""

FENCED = """
INSERT INTO jobs_attempt (job_id, number, outcome, ended_at, worker_id, worker_name, child_pid, claim_token,
                          error_code, error, traceback, fingerprint, fenced_at, fenced_outcome)
SELECT id, %(attempt)s, 'FENCED', clock_timestamp(), %(worker)s::uuid, '', %(pid)s::int, %(token)s,
       '', '', '', '', clock_timestamp(), %(outcome)s
  FROM jobs_job WHERE id = %(id)s
ON CONFLICT (job_id, number)
DO UPDATE SET fenced_at = EXCLUDED.fenced_at, fenced_outcome = EXCLUDED.fenced_outcome
        WHERE jobs_attempt.fenced_at IS NULL
"""
