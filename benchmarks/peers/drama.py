"""dramatiq on Redis: two processes of eight threads, its own default shape."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.marks import mark
from benchmarks.peers.driving import drive

broker = RedisBroker(url=os.environ["REDIS_URL"])
dramatiq.set_broker(broker)


@dramatiq.actor(actor_name="noop")
def noop(number: int, text: str, at: float) -> None:
    mark(at)


if __name__ == "__main__":
    drive(prepare=broker.flush_all, submit=lambda payload: noop.send(**payload))
