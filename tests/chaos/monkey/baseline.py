"""Plain Celery with Redis as a plan meets it: two workers and nothing else, because there is nothing else to run."""

import uuid

import redis
from kombu.exceptions import OperationalError

from tests.chaos.monkey import ledger, plain
from tests.chaos.monkey.evidence import Evidence
from tests.chaos.monkey.plan import Order
from tests.chaos.monkey.stage import Stage
from tests.chaos.monkey.systems import WORKER_SIZE, await_count

WORKERS = ("worker-1", "worker-2")


class Plain:
    name = "plain Celery + Redis with late ack"
    queues: tuple[str, ...] = ("celery",)

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.environment = {
            plain.BROKER: stage.valkey.url,
            plain.DATABASE: stage.postgres.url,
            ledger.PLACE: str(stage.ledger),
        }
        self.app = plain.app
        self.app.conf.update(broker_url=stage.valkey.url, result_backend=stage.valkey.url)

    def begin(self) -> None:
        with self.stage.database() as connection:
            connection.execute("CREATE TABLE chaos_atomic (job text NOT NULL)")
        for name in WORKERS:
            worker = ("-m", "celery", "-A", "tests.chaos.monkey.plain", "worker", "-c", WORKER_SIZE)
            command = (*worker, "-n", f"{name}@chaos", "--loglevel", "INFO")
            self.stage.crew.enlist(name, *command, environment=self.environment)
        await_count(lambda: len(self.app.control.ping(timeout=2) or []), len(WORKERS))

    def submit(self, order: Order) -> str:
        """The id comes from the key, so that a second try is the same task; Celery itself knows no keys."""
        task_id = str(uuid.uuid5(uuid.NAMESPACE_URL, order.key))
        try:
            self.app.tasks[f"plain_{order.kind}"].apply_async((order.key,), task_id=task_id)
        except (OperationalError, redis.RedisError) as error:
            raise ConnectionError(str(error)) from error
        return task_id

    def cancel(self, job: str) -> None:
        self.app.control.revoke(job)

    def finished(self) -> int:
        return len(self._ended())

    def unfinished(self, accepted: dict[str, str]) -> int:
        return len(set(accepted.values()) - self._ended())

    def look(self) -> None:
        """Nothing: it has no rows to look at."""

    def evidence(self, accepted: dict[str, str]) -> Evidence:
        with self.stage.database() as connection:
            atomic = [row[0] for row in connection.execute("SELECT job FROM chaos_atomic").fetchall()]
        return Evidence(accepted=dict(accepted), deeds=ledger.read(self.stage.ledger), atomic=atomic)

    def _ended(self) -> set[str]:
        return {deed.job for deed in ledger.read(self.stage.ledger) if deed.deed == ledger.END}
