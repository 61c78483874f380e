"""What is compared: how each system is driven and which processes work for it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

CELERY = ("-m", "celery")


@dataclass(frozen=True)
class System:
    """`workers` are commands for the system's own Python; two processes run jobs in every one of them."""

    name: str
    module: str
    workers: tuple[Sequence[str], ...]
    jobs: int
    peer: bool = True
    environment: dict[str, str] = field(default_factory=dict)
    promise: str = "recorded"
    has_bulk: bool = True
    has_latency: bool = True

    def __hash__(self) -> int:
        return hash(self.name)


def _switchyard(delivery: str, jobs: int, *workers: Sequence[str], shape: str = "") -> System:
    include = ("-I", "benchmarks.own.tasks", "--loglevel", "WARNING")
    return System(
        name=f'Switchyard "{delivery}"{shape}',
        module="benchmarks.own.switchyard",
        workers=(*((*worker, *include) for worker in workers), ("manage.py", "dispatcher", "--skip-checks")),
        jobs=jobs,
        peer=False,
        environment={"BENCH_DELIVERY": delivery},
        promise="recorded, key, fenced",
    )


def _worker(name: str, size: int) -> Sequence[str]:
    return (*CELERY, "-A", "config", "worker", "-Q", "default", "-c", str(size), "-n", f"{name}@bench")


def _celery(module: str, *more: str) -> Sequence[str]:
    return (*CELERY, "-A", f"benchmarks.peers.{module}", "worker", "-c", "2", "--loglevel", "WARNING", *more)


PLAIN = System(
    "plain Celery, late ack",
    "benchmarks.peers.plain_celery",
    (_celery("plain_celery", "-Q", "bench-celery"),),
    jobs=8000,
    promise="not recorded",
)
SUSTAINED = _switchyard("both deliveries", 0, *(_worker(name, 2) for name in ("one", "two")))
SYSTEMS = [
    PLAIN,
    System(
        "Celery + django-celery-results",
        "benchmarks.peers.celery_results",
        (_celery("celery_results", "-Q", "bench-results"),),
        jobs=4000,
        promise="result recorded",
    ),
    _switchyard("each", 8000, _worker("one", 1), _worker("two", 1), shape=", 2 x -c 1"),
    _switchyard("each", 8000, _worker("both", 2), shape=", -c 2"),
    _switchyard("batch", 150_000, _worker("both", 2)),
    System(
        "django-tasks-db",
        "benchmarks.peers.tasks_db",
        (("-m", "django", "db_worker", "--settings", "benchmarks.peers.django_site"),) * 2,
        jobs=3000,
        has_bulk=False,
    ),
    System(
        "django-q2 (ORM)",
        "benchmarks.peers.q2",
        (("-m", "django", "qcluster", "--settings", "benchmarks.peers.django_site"),),
        jobs=2000,
        has_bulk=False,
    ),
    System(
        "procrastinate",
        "benchmarks.peers.pro",
        (("-m", "procrastinate", "--app", "benchmarks.peers.pro.app", "worker", "--concurrency", "1"),) * 2,
        jobs=2000,
    ),
    System(
        "dramatiq (2 x 8 threads)",
        "benchmarks.peers.drama",
        (("-m", "dramatiq", "benchmarks.peers.drama", "-p", "2", "-t", "8"),),
        jobs=15000,
        promise="not recorded",
        has_bulk=False,
    ),
    System(
        "huey",
        "benchmarks.peers.hue",
        (("-m", "huey.bin.huey_consumer", "benchmarks.peers.hue_app.huey", "-k", "process", "-w", "2", "-q"),),
        jobs=30000,
        promise="not recorded, pops first",
        has_bulk=False,
    ),
    System(
        "rq (forking)",
        "benchmarks.peers.r_q",
        (("-m", "rq.cli", "worker", "--quiet", "bench", "--path", "."),) * 2,
        jobs=600,
        promise="result for a minute",
    ),
    System(
        "pgqueuer (batch 100)",
        "benchmarks.peers.pgq",
        (("-m", "benchmarks.peers.pgq", "work"),) * 2,
        jobs=150_000,
    ),
]
