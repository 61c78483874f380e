"""What must hold after any fault: the invariants, asked of the rows and of the workers' logs."""

import re
from collections import Counter
from pathlib import Path

from django.db import connection

from jobs.models import Job
from tests.waiting import eventually

# Every move of a state leaves a row, and so does any change of a final job.
AUDIT = """
CREATE TABLE IF NOT EXISTS chaos_effect (key text PRIMARY KEY, times int NOT NULL);
CREATE TABLE IF NOT EXISTS chaos_move (job uuid NOT NULL, before text NOT NULL, after text NOT NULL);
CREATE OR REPLACE FUNCTION chaos_note_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO chaos_move VALUES (NEW.id, OLD.state, NEW.state); RETURN NULL; END $$;
CREATE OR REPLACE TRIGGER chaos_note_move AFTER UPDATE ON jobs_job FOR EACH ROW
  WHEN (OLD.state <> NEW.state OR OLD.finished_at IS NOT NULL) EXECUTE FUNCTION chaos_note_move();
TRUNCATE chaos_effect, chaos_move;
"""
REVIVED = "(SELECT * FROM jobs_event AS e WHERE e.job_id = job.id AND e.verb IN ('replayed', 'reinstated'))"
BROKEN = f"""
SELECT job.id, job.task, job.state, rule FROM jobs_job AS job
  CROSS JOIN LATERAL (
    SELECT count(*) AS rows,
           count(*) FILTER (WHERE outcome = 'RETRY' AND started_at > last) AS retries,
           count(*) FILTER (WHERE outcome = 'LOST' AND started_at > last) AS deaths
      FROM (SELECT coalesce(max(at), '-infinity') AS last FROM {REVIVED} AS e) AS revived
      LEFT JOIN jobs_attempt AS a ON a.job_id = job.id WHERE a.id IS NOT NULL) AS ended
  CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE after = 'SUCCESS' AND before <> 'SUCCESS') AS successes,
           count(*) FILTER (WHERE before IN ('SUCCESS', 'FAILURE', 'REVOKED')) AS changed
      FROM chaos_move AS m WHERE m.job = job.id) AS moves
  CROSS JOIN LATERAL (VALUES
    ('I1: it is final', job.finished_at IS NOT NULL),
    ('I2: it succeeded at most once', moves.successes <= 1),
    ('I3: when final it changed only by a recorded verb', moves.changed = (SELECT count(*) FROM {REVIVED} AS e)),
    ('I4: every attempt is accounted for', job.attempt = ended.rows + (job.state = 'SUCCESS')::int),
    ('I4: retries are counted', job.retries = ended.retries),
    ('I4: deaths are counted', job.deaths = ended.deaths),
    ('I8: a FAILURE has its letter', job.state <> 'FAILURE' OR EXISTS (
      SELECT FROM deadletters_deadletter AS letter WHERE letter.job_id = job.id))
  ) AS rules(rule, holds)
 WHERE NOT holds
"""
CLAIMED = re.compile(r"job claimed .*job_id=(\S+) .*attempt=(\d+)")


def begin() -> None:
    """Have the database note what no row would tell afterwards."""
    with connection.cursor() as cursor:
        cursor.execute(AUDIT)


def judge(logs: Path, *, within: float = 40) -> None:
    """Wait until every job is final, then ask for every invariant."""
    unfinished = Job.objects.unfinished()
    eventually(lambda: not unfinished.exists(), within=within, what="every job to be final (I1)")
    with connection.cursor() as cursor:
        cursor.execute(BROKEN)
        assert cursor.fetchall() == []
    assert bodies_started_twice(logs) == []


def bodies_started_twice(logs: Path) -> list[tuple[str, str]]:
    """I5: (job, attempt) pairs whose body was started more than once, by the workers' logs."""
    starts = Counter(found for log in logs.glob("*.log") for found in CLAIMED.findall(log.read_text(errors="replace")))
    return [pair for pair, times in starts.items() if times > 1]


def effects(job: Job) -> int:
    """How often the job's bodies left their effect."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT times FROM chaos_effect WHERE key = %s", [job.idempotency_key])
        return sum(row[0] for row in cursor.fetchall())
