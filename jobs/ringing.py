"""The dispatcher's part in deliveries by batch: ring for jobs that became due, or whose bell was lost."""

from typing import Any

from django.db import connection

from jobs import doorbell, tickets
from jobs.dispatch import TICKET_QUEUE, unpaused_queues
from jobs.doorbell import Bell
from jobs.policies import batch_tasks

# Far enough to see every task that is near its turn, and no farther: a queue may be a million jobs deep.
LOOK_AHEAD = 2000
_DUE = f"""
SELECT DISTINCT task, ticket_queue
  FROM unnest(%(queues)s::text[]) AS wanted(name)
 CROSS JOIN LATERAL (
   SELECT job.task, {TICKET_QUEUE} AS ticket_queue FROM jobs_job AS job
    WHERE job.finished_at IS NULL AND job.dispatched_at IS NULL AND job.queue = wanted.name
      AND job.run_at <= clock_timestamp() AND job.state IN ('PENDING', 'RETRY') AND job.cancel_requested_at IS NULL
      AND (job.expires_at IS NULL OR job.expires_at > clock_timestamp())
    ORDER BY job.run_at LIMIT %(limit)s) AS due
 WHERE task = ANY(%(tasks)s)
"""


def ring_due() -> int:
    """Ring for tasks with due jobs that nobody has claimed; how many bells were wanted.

    Without a lock: the key in Redis decides between two dispatchers, and a bell too many costs one empty claim.
    """
    names: dict[str, Any] = {"queues": unpaused_queues(), "tasks": batch_tasks(), "limit": LOOK_AHEAD}
    if not names["tasks"] or not tickets.can_publish():
        return 0
    with connection.cursor() as cursor:
        cursor.execute(_DUE, names)
        bells = [Bell(*row) for row in cursor.fetchall()]
    return len(bells) if doorbell.ring(bells) else 0
