"""The two moves of every job are judged by the trigger's condition; only others call its function."""

from django.db import migrations

ALWAYS = "OLD.state IS DISTINCT FROM NEW.state"
CLAIM = "OLD.state IN ('PENDING', 'RETRY') AND NEW.state = 'STARTED' AND NEW.attempt = OLD.attempt + 1"
SUCCESS = "OLD.state = 'STARTED' AND NEW.state = 'SUCCESS' AND NEW.attempt = OLD.attempt"


def guard(condition: str) -> str:
    return f"""
CREATE OR REPLACE TRIGGER jobs_job_guard BEFORE UPDATE OF state ON jobs_job
  FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION jobs_job_guard();
"""


class Migration(migrations.Migration):
    dependencies = [("jobs", "0006_bulk_operation")]

    operations = [
        migrations.RunSQL(guard(f"{ALWAYS} AND NOT ({CLAIM}) AND NOT ({SUCCESS})"), guard(ALWAYS)),
    ]
