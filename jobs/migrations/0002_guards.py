"""What Django cannot declare: foreign keys that cascade in the database, and the trigger that refuses illegal moves."""

from django.db import migrations

CASCADES = [
    ("jobs_joblabel", "job_id", ""),
    ("jobs_attempt", "job_id", ""),
    ("jobs_event", "job_id", ""),
    ("jobs_effect", "job_id", ""),
    # The key is inserted before its job, in one statement.
    ("jobs_idempotencykey", "job_id", "DEFERRABLE INITIALLY DEFERRED"),
]

FOREIGN_KEYS = [
    migrations.RunSQL(
        f"ALTER TABLE {table} ADD CONSTRAINT {table}_goes_with_its_job FOREIGN KEY ({column}) "
        f"REFERENCES jobs_job (id) ON DELETE CASCADE {timing}",
        f"ALTER TABLE {table} DROP CONSTRAINT {table}_goes_with_its_job",
    )
    for table, column, timing in CASCADES
]

GUARD = """
CREATE FUNCTION jobs_job_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NOT (
       (OLD.state = 'PENDING' AND NEW.state IN ('STARTED', 'REVOKED'))
    OR (OLD.state = 'STARTED' AND NEW.state IN ('SUCCESS', 'RETRY', 'FAILURE', 'REVOKED', 'PENDING'))
    OR (OLD.state = 'RETRY'   AND NEW.state IN ('STARTED', 'REVOKED', 'PENDING'))
    OR (OLD.state = 'FAILURE' AND NEW.state = 'PENDING')
    OR (OLD.state = 'REVOKED' AND NEW.state = 'PENDING')
  ) THEN
    RAISE EXCEPTION 'job % may not move from % to %', OLD.id, OLD.state, NEW.state USING ERRCODE = '23J01';
  END IF;
  IF NEW.attempt <> OLD.attempt + (NEW.state = 'STARTED')::int THEN
    RAISE EXCEPTION 'job %: attempt may only rise by one, at a claim', OLD.id USING ERRCODE = '23J02';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER jobs_job_guard BEFORE UPDATE OF state ON jobs_job
  FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION jobs_job_guard();
"""

# Rows are updated twice and then left alone: room on the page keeps the claim a heap-only update, and
# the queue's end of the table must be vacuumed long before a fifth of it has died.
STORAGE = """
ALTER TABLE jobs_job SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
                          autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE jobs_worker SET (fillfactor = 50);
ALTER TABLE jobs_queue SET (fillfactor = 50);
"""


class Migration(migrations.Migration):
    dependencies = [("jobs", "0001_initial")]

    operations = [
        *FOREIGN_KEYS,
        migrations.RunSQL(GUARD, "DROP TRIGGER jobs_job_guard ON jobs_job; DROP FUNCTION jobs_job_guard()"),
        migrations.RunSQL(STORAGE, migrations.RunSQL.noop),
    ]
