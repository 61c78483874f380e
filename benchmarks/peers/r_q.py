"""rq with its forking worker, the default."""

import os

from redis import Redis
from rq import Queue

from benchmarks.peers.bodies import noop
from benchmarks.peers.driving import drive

queue = Queue("bench", connection=Redis.from_url(os.environ["REDIS_URL"]))


def bulk(payloads):
    queue.enqueue_many([Queue.prepare_data(noop, kwargs=payload, result_ttl=60) for payload in payloads])


if __name__ == "__main__":
    drive(prepare=queue.empty, submit=lambda payload: queue.enqueue(noop, kwargs=payload, result_ttl=60), bulk=bulk)
