"""Notes about unacknowledged messages are written without waiting, and none is left behind."""

import os
import threading
from collections import Counter
from collections.abc import Callable

import pytest
from kombu import Connection
from kombu.asynchronous import Hub
from kombu.simple import SimpleQueue
from kombu.transport import redis as stock
from redis import Redis

from jobs.roundtrips import Command, Notebook, Readers, Transport
from local.valkey import Valkey
from tests.jobs.test_transport import OURS, READ, READY, StockWorker, send, valkey, worker
from tests.waiting import eventually

__all__ = ["valkey", "worker"]
Start = Callable[..., StockWorker]


def noted(each: StockWorker) -> tuple[int, int]:
    return each.redis.hlen("unacked"), each.redis.zcard("unacked_index")  # type: ignore[return-value]


@pytest.fixture
def ours(worker: Start) -> StockWorker:
    each = worker(OURS)
    each.start()
    each.says(READY)
    return each


def test_a_message_is_noted_while_its_task_runs_and_forgotten_soon_after(ours: StockWorker) -> None:
    send(ours, "nap", 2)
    ours.says("a nap began")
    eventually(lambda: noted(ours) == (1, 1), within=5)
    ours.says("a nap ended")
    eventually(lambda: noted(ours) == (0, 0), within=6)


def test_many_messages_leave_no_note_behind_when_the_worker_stops_at_once(ours: StockWorker) -> None:
    for _ in range(50):
        send(ours, "flaky")
    ours.says(READ, times=50)
    assert ours.process is not None
    ours.process.terminate()
    ours.process.wait(timeout=30)
    assert noted(ours) == (0, 0)


def test_the_note_of_a_killed_worker_stays_for_the_next(ours: StockWorker) -> None:
    send(ours, "nap", 60)
    ours.says("a nap began")
    eventually(lambda: noted(ours) == (1, 1), within=5)
    ours.stop()
    assert noted(ours) == (1, 1)


def test_notes_that_redis_refuses_cost_no_message(ours: StockWorker) -> None:
    """Out of memory, a server still gives out what it has."""
    for _ in range(3):
        send(ours, "nap", 0.2)
    ours.redis.config_set("maxmemory", 1)
    try:
        ours.says("a nap ended", times=3)
        ours.says("note about a message refused")
    finally:
        ours.redis.config_set("maxmemory", 0)
    send(ours, "flaky")
    ours.says(READ)
    assert ours.exit_code is None


def test_a_lost_connection_costs_no_message_and_no_worker(ours: StockWorker) -> None:
    send(ours, "nap", 1)
    ours.says("a nap began")
    _kill_everybody(ours.redis)
    send(ours, "flaky")
    ours.says(READ)
    eventually(lambda: noted(ours) == (0, 0), within=20)
    assert ours.exit_code is None


def _kill_everybody(client: Redis) -> None:
    client.client_kill_filter(_type="normal", skipme=True)


def test_a_message_given_back_at_once_comes_again_although_its_note_is_slow(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_their_way: list[threading.Timer] = []
    write, read_answers = Notebook.write, Notebook.read_answers

    def write_slowly(self: Notebook, commands: list[Command]) -> None:
        on_their_way.append(threading.Timer(0.3, write, (self, commands)))
        on_their_way[-1].start()

    def read_what_arrived(self: Notebook) -> None:
        while on_their_way:
            on_their_way.pop().join()
        read_answers(self)

    monkeypatch.setattr(Notebook, "write", write_slowly)
    monkeypatch.setattr(Notebook, "read_answers", read_what_arrived)
    with Connection(valkey.url, transport=OURS) as connection, connection.SimpleQueue("given-back") as queue:
        queue.put({"given": "once"})
        queue.get(timeout=10).requeue()
        again = queue.get(timeout=10)
        assert again.payload == {"given": "once"}
        again.ack()


def test_a_connection_is_registered_once_and_anew_when_it_was_removed_or_is_read_by_another() -> None:
    """What the poller is told, while the transport says on every turn of the loop which connections it reads."""
    hub, told = Hub(), Counter[int]()
    register = hub.poller.register
    hub.poller.register = lambda fd, flags: told.update([fd]) or register(fd, flags)
    readers, (fd, other_end) = Readers(hub), os.pipe()
    for _ in range(3):
        readers.add_reader(fd, print, fd)
    assert told[fd] == 1
    readers.remove_reader(fd)
    readers.add_reader(fd, print, fd)
    assert told[fd] == 2
    readers.add_reader(fd, repr, fd)
    assert told[fd] == 3 and hub.readers[fd] == (repr, (fd,))
    hub.close()
    os.close(fd)
    os.close(other_end)


def registrations(url: str, transport: type, turns: int) -> int:
    """How often the poller is told of a connection while nothing happens for so many turns of the loop."""
    hub, told = Hub(), Counter[str]()
    register = hub.poller.register
    hub.poller.register = lambda *about: told.update(["told"]) or register(*about)
    with Connection(url, transport=transport) as connection:
        SimpleQueue(connection, "default").consumer.consume()
        connection.transport.register_with_event_loop(connection.connection, hub)
        for _ in range(turns):
            for tick in list(hub.on_tick):
                tick()
        connection.transport.cycle.close()
    hub.close()
    return told["told"]


def test_the_transport_tells_the_poller_once_where_kombus_own_tells_it_every_turn(valkey: Valkey) -> None:
    """When kombu's own does not any more, ours can go."""
    assert registrations(valkey.url, Transport, 30) < 5
    assert registrations(valkey.url, stock.Transport, 30) >= 30
