"""The doorbell: one message that says "there are jobs of this task on this queue", however many there are.

Jobs with delivery "batch" have no tickets. Whoever commits one rings; a bell that hangs unanswered makes
further ringing pointless, so a key in Redis remembers it, for ten seconds at most: a bell may be lost.
"""

import json
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple
from uuid import UUID, uuid4

import redis
from redis.commands.core import Script

from jobs import tickets
from jobs.policies import policy

REMEMBERED_SECONDS = 10
# How long one answer goes on taking jobs; the one it is in then may take its whole hard limit.
BUDGET_SECONDS = 0.5
# Stands where the id of a call goes.
NOBODY = str(UUID(int=0))
# In one step: whoever ends in between leaves no bell remembered that was never hung.
_HANG = "if redis.call('SET', KEYS[1], 1, 'NX', 'EX', ARGV[2]) then redis.call('LPUSH', KEYS[2], ARGV[1]) end"


class Bell(NamedTuple):
    task: str
    queue: str


def ring(bells: Iterable[Bell]) -> bool:
    """Call a worker for each, unless one is called already. False: Redis is away and the dispatcher must ring."""
    wanted = set(bells)
    return not wanted or tickets.attempt(lambda client: _ring(client, wanted), len(wanted))


def answered(bell: Bell) -> None:
    """From here on new jobs ring again: called before the claim, which finds all jobs that did not."""
    tickets.attempt(lambda client: client.delete(_key(bell)), 1)


def message(bell: Bell) -> str:
    """A ticket of the task whose header says which queue to take jobs from, with its own hard limit."""
    return _pattern(bell, BUDGET_SECONDS + policy(bell.task).hard_limit).replace(NOBODY, str(uuid4()))


@cache
def _pattern(bell: Bell, limit: float) -> str:
    built = json.loads(tickets.first_text(NOBODY, bell.task, bell.queue))
    built["headers"] |= {"doorbell": bell.queue, "timelimit": [limit, None]}
    return json.dumps(built, separators=(",", ":"))


def _ring(client: redis.Redis, bells: set[Bell]) -> None:
    for bell in bells:
        _hang_script(client)(keys=[_key(bell), bell.queue], args=[message(bell), REMEMBERED_SECONDS])


@cache
def _hang_script(client: redis.Redis) -> Script:
    return client.register_script(_HANG)


def _key(bell: Bell) -> str:
    return f"jobs:bell:{bell.queue}:{bell.task}"
