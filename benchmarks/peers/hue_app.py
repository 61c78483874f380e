"""Huey names a task after its module, which must not be __main__."""

import os

from huey import RedisHuey

from benchmarks.marks import mark

huey = RedisHuey("bench", url=os.environ["REDIS_URL"], results=False)


@huey.task(name="noop")
def noop(number: int, text: str, at: float) -> None:
    mark(at)
