"""huey on Redis: it pops a job before running it, so a crash loses it."""

import os

from huey import RedisHuey

from benchmarks.marks import mark
from benchmarks.peers.driving import drive

huey = RedisHuey("bench", url=os.environ["REDIS_URL"], results=False)


@huey.task(name="noop")
def noop(number: int, text: str, at: float) -> None:
    mark(at)


if __name__ == "__main__":
    drive(prepare=huey.flush, submit=lambda payload: noop(**payload))
