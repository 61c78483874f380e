"""What each fault does to the running system. A fault whose victim is not there does nothing and says so."""

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import redis

from tests.chaos.monkey.crew import send
from tests.chaos.monkey.plan import Fault
from tests.chaos.monkey.systems import System
from tests.chaos.monkey.targets import job_to_cancel, pick, worker_child


@dataclass
class Monkey:
    """Does the plan's faults when they are due, and undoes what lasts only for a while."""

    system: System
    accepted: dict[str, str]
    undo: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    destroyed: int = 0
    done: list[str] = field(default_factory=list)
    skipped: int = 0

    def strike(self, fault: Fault) -> None:
        try:
            said = STRIKES[fault.kind](self, fault)
        except (redis.RedisError, ConnectionError) as error:
            said = f"skipped: {type(error).__name__}"
        self.skipped += said.startswith("skipped")
        self.done.append(f"{fault.at:7.1f} s  {fault.kind}: {said}")

    def undo_due(self, *, everything: bool = False) -> None:
        now = time.monotonic()
        due = [each for each in self.undo if everything or each[0] <= now]
        self.undo = [each for each in self.undo if each not in due]
        for _, act in due:
            act()

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        self.undo.append((time.monotonic() + seconds, act))


def kill_child(monkey: Monkey, fault: Fault) -> str:
    child = worker_child(monkey.system, fault.choice)
    if child is None:
        return "skipped: there is none"
    send([child], signal.SIGKILL)
    return f"pid {child.pid}"


def kill_member(monkey: Monkey, prefix: str, choice: float) -> str:
    crew = monkey.system.stage.crew
    family = crew.family(name) if (name := pick(crew.names(prefix), choice)) else []
    if not family:
        return "skipped: it is not running"
    # Only the parent, as the out-of-memory killer would; its children are for the system to take care of.
    send(family[:1], signal.SIGKILL)
    return f"{name}, pid {family[0].pid}"


def freeze(monkey: Monkey, fault: Fault) -> str:
    """Parent and children of one worker stand still: nothing beats, nothing settles, connections stay open."""
    crew = monkey.system.stage.crew
    family = crew.family(name) if (name := pick(crew.names("worker"), fault.choice)) else []
    if not family:
        return "skipped: it is not running"
    send(family, signal.SIGSTOP)
    monkey.later(fault.lasts, lambda: send(family, signal.SIGCONT))
    return f"{name}, {len(family)} processes for {fault.lasts:g} s"


def restart_redis(monkey: Monkey, fault: Fault) -> str:
    """A crash rather than a shutdown; its append-only file brings everything back."""
    valkey = monkey.system.stage.valkey
    if not valkey.is_running():
        return "skipped: it is down"
    valkey.kill()
    monkey.later(fault.lasts, valkey.start)
    return f"down for {fault.lasts:g} s"


def restart_postgres(monkey: Monkey, fault: Fault) -> str:
    postgres = monkey.system.stage.postgres
    if not postgres.is_running():
        return "skipped: it is down"
    postgres.stop("immediate")
    monkey.later(fault.lasts, postgres.start)
    return f"immediate stop, down for {fault.lasts:g} s"


def flush_redis(monkey: Monkey, _fault: Fault) -> str:
    with monkey.system.stage.redis() as client:
        waiting = sum(int(client.llen(queue)) for queue in monkey.system.queues)
        client.flushall()
    monkey.destroyed += waiting
    return f"{waiting} waiting messages gone"


def cut_connections(monkey: Monkey, _fault: Fault) -> str:
    with monkey.system.stage.redis() as client:
        return f"{client.execute_command('CLIENT', 'KILL', 'TYPE', 'normal')} connections"


def delete_tickets(monkey: Monkey, fault: Fault) -> str:
    """About half of what waits in every queue."""
    chance, gone = random.Random(fault.choice), 0
    with monkey.system.stage.redis() as client:
        for queue in monkey.system.queues:
            for raw in client.lrange(queue, 0, -1):
                gone += int(client.lrem(queue, 1, raw)) if chance.random() < 0.5 else 0
    monkey.destroyed += gone
    return f"{gone} waiting messages gone"


def cancel_a_job(monkey: Monkey, fault: Fault) -> str:
    job = job_to_cancel(monkey.accepted, fault.choice)
    if job is None:
        return "skipped: nothing was submitted yet"
    monkey.system.cancel(job)
    return job


STRIKES: dict[str, Callable[[Monkey, Fault], str]] = {
    "kill child": kill_child,
    "kill worker": lambda monkey, fault: kill_member(monkey, "worker", fault.choice),
    "kill dispatcher": lambda monkey, fault: kill_member(monkey, "dispatcher", fault.choice),
    "kill beat": lambda monkey, fault: kill_member(monkey, "beat", fault.choice),
    "freeze briefly": freeze,
    "freeze past lease": freeze,
    "restart Redis": restart_redis,
    "restart PostgreSQL": restart_postgres,
    "flush Redis": flush_redis,
    "cut connections": cut_connections,
    "delete tickets": delete_tickets,
    "cancel a job": cancel_a_job,
}
