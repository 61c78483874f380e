"""What every page of the panel says about the whole house, in one query."""

from dataclasses import dataclass

from django.conf import settings
from django.db import connection

MOST_GROUPS = 100
# A walk from fingerprint to fingerprint along the index: a million letters of three kinds cost three steps.
_STATEMENT = """
WITH RECURSIVE kinds(fingerprint, number) AS (
  (SELECT fingerprint, 1 FROM deadletters_deadletter WHERE resolution IS NULL ORDER BY fingerprint LIMIT 1)
  UNION ALL
  SELECT (SELECT letter.fingerprint FROM deadletters_deadletter AS letter
           WHERE letter.resolution IS NULL AND letter.fingerprint > kinds.fingerprint
           ORDER BY letter.fingerprint LIMIT 1), number + 1
    FROM kinds WHERE fingerprint IS NOT NULL AND number < %s
)
SELECT (SELECT count(*) FROM kinds WHERE fingerprint IS NOT NULL),
       (SELECT count(*) FROM jobs_worker WHERE kind = 'worker' AND state = 'UP'
           AND heartbeat_at > clock_timestamp() - make_interval(secs => %s)),
       ARRAY(SELECT name FROM jobs_queue WHERE paused_at IS NOT NULL ORDER BY name)
"""


@dataclass(frozen=True)
class House:
    groups: int
    workers: int
    paused: list[str]

    @property
    def lamp(self) -> str:
        return "failure" if not self.workers else "retry" if self.paused else "success"

    @property
    def line(self) -> str:
        """What somebody should know on whatever page they are, or nothing."""
        if not self.workers:
            return "No worker is reporting"
        return f"{', '.join(self.paused)} paused" if self.paused else ""


def house() -> House:
    with connection.cursor() as cursor:
        cursor.execute(_STATEMENT, [MOST_GROUPS, settings.LEASE_SECONDS])
        return House(*cursor.fetchone())
