"""What will happen in a run, decided before it starts: which jobs are submitted when, and which faults strike.

Everything comes from random.Random(seed), so the same seed and arguments give the same plan, word for word.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

QUIET_START = 4.0
# Faults that destroy tickets are given some: this share of the jobs is submitted just before one of them,
# and only such kinds as keep the workers busy, so that tickets wait.
BURST_SHARE = 0.5
BURST_LEAD = 0.15
UNHURRIED = ("nap", "once", "long")


@dataclass(frozen=True)
class Stream:
    """Faults of one kind: seconds between two of them, and how long one lasts."""

    every: tuple[float, float]
    lasts: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Fault:
    at: float
    kind: str
    # A number in [0, 1) that picks the victim among those there are at that moment.
    choice: float
    lasts: float

    def __str__(self) -> str:
        lasting = f"  for {self.lasts:4.1f} s" if self.lasts else ""
        return f"{self.at:7.1f} s  {self.kind:<18}  choice {self.choice:.3f}{lasting}"


@dataclass(frozen=True)
class Order:
    """A job to be submitted; `at` is when the submitter first tries."""

    at: float
    kind: str
    key: str


@dataclass(frozen=True)
class Plan:
    seed: int
    seconds: float
    faults: tuple[Fault, ...]
    orders: tuple[Order, ...]

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(o.kind for o in self.orders).items()))
        digest = hashlib.sha256(repr(self.orders).encode()).hexdigest()[:12]
        head = f"seed {self.seed}: {self.seconds:g} s, {len(self.orders)} jobs, {len(self.faults)} faults"
        return "\n".join([head, f"jobs: {kinds} (times and keys {digest})", *map(str, self.faults)])


@dataclass(frozen=True)
class Recipe:
    """What a plan is made from."""

    streams: Mapping[str, Stream]
    mix: Mapping[str, int]


MIXED = {"short": 20, "nap": 26, "retrying": 14, "atomic": 12, "once": 14, "long": 12, "doomed": 2}
MONKEY = Recipe(
    streams={
        "kill child": Stream((4, 12)),
        "kill worker": Stream((12, 28)),
        "freeze briefly": Stream((18, 40), lasts=(1.0, 3.0)),
        "freeze past lease": Stream((30, 60), lasts=(8.0, 12.0)),
        "restart Redis": Stream((20, 45), lasts=(0.0, 4.0)),
        "flush Redis": Stream((20, 45)),
        "cut connections": Stream((12, 28)),
        "delete tickets": Stream((12, 28)),
        "restart PostgreSQL": Stream((20, 45), lasts=(0.0, 8.0)),
        "kill dispatcher": Stream((15, 35)),
        "kill beat": Stream((20, 45)),
    },
    mix=MIXED,
)
# Scenario 43 of the fault list: nothing but restarts and kills, as dense as they come.
RESTARTS = Recipe(
    streams={
        "restart PostgreSQL": Stream((5, 20), lasts=(0.0, 2.0)),
        "restart Redis": Stream((5, 20), lasts=(0.0, 2.0)),
        "kill worker": Stream((5, 15)),
    },
    mix={"nap": 1},
)
# Scenario 42: whatever may be done to a job or around it, in random order.
ANYTHING = Recipe(
    streams={
        "cancel a job": Stream((0.5, 2)),
        "kill child": Stream((3, 8)),
        "kill worker": Stream((8, 20)),
        "flush Redis": Stream((8, 20)),
        "restart Redis": Stream((10, 25), lasts=(0.0, 3.0)),
        "restart PostgreSQL": Stream((10, 25), lasts=(0.0, 3.0)),
    },
    mix=MIXED,
)
TAKES_TICKETS = ("flush Redis", "delete tickets", "restart Redis")


def make_plan(recipe: Recipe, *, seed: int, seconds: float, jobs: int) -> Plan:
    chance = random.Random(seed)
    faults = [fault for kind, stream in recipe.streams.items() for fault in _strikes(chance, kind, stream, seconds)]
    faults.sort(key=lambda fault: (fault.at, fault.kind))
    orders = _orders(chance, recipe.mix, faults, seconds=seconds, jobs=jobs, seed=seed)
    return Plan(seed, seconds, tuple(faults), tuple(orders))


def _strikes(chance: random.Random, kind: str, stream: Stream, seconds: float) -> list[Fault]:
    faults, at = [], QUIET_START + chance.uniform(0, stream.every[1])
    while at < seconds:
        faults.append(Fault(round(at, 2), kind, round(chance.random(), 6), round(chance.uniform(*stream.lasts), 1)))
        at += chance.uniform(*stream.every)
    return faults


def _orders(
    chance: random.Random, mix: Mapping[str, int], faults: list[Fault], *, seconds: float, jobs: int, seed: int
) -> list[Order]:
    moments = [fault.at - BURST_LEAD for fault in faults if fault.kind in TAKES_TICKETS]
    in_bursts = int(jobs * BURST_SHARE) if moments else 0
    unhurried = {kind: weight for kind, weight in mix.items() if kind in UNHURRIED}
    wanted = [(chance.choice(moments), kind) for kind in _kinds(chance, unhurried, in_bursts)]
    wanted += [(chance.uniform(0, seconds), kind) for kind in _kinds(chance, mix, jobs - in_bursts)]
    return [Order(round(at, 2), kind, f"chaos-{seed}-{number}") for number, (at, kind) in enumerate(sorted(wanted))]


def _kinds(chance: random.Random, mix: Mapping[str, int], count: int) -> list[str]:
    return chance.choices(list(mix), weights=list(mix.values()), k=count)
