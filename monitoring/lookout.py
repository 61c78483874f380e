"""What this web process sees in the metrics: the alerts that fire, and how the machinery is."""

import time
from dataclasses import dataclass
from threading import Lock

from monitoring.conditions import findings
from monitoring.history import History, Labels, samples
from monitoring.metrics import JobCollector

LOOKS_EVERY = 5.0
MEGABYTE = 2**20


@dataclass(frozen=True)
class Alert:
    name: str
    severity: str
    text: str


@dataclass(frozen=True)
class Machine:
    """A part that must run, whether it does, and one fact about it."""

    name: str
    lamp: str
    text: str


class Lookout:
    """Looks at most every few seconds, whoever asks, and remembers enough to see what rises."""

    def __init__(self) -> None:
        self._history = History()
        self._looked = float("-inf")
        self._lock = Lock()

    def look(self) -> tuple[list[Alert], list[Machine]]:
        with self._lock:
            if time.monotonic() - self._looked > LOOKS_EVERY:
                self._history.add(time.monotonic(), samples(JobCollector().collect()))
                self._looked = time.monotonic()
            return self._alerts(), [self._beat(), self._dispatcher(), self._broker(), self._database()]

    def _alerts(self) -> list[Alert]:
        found = [Alert(condition.name, condition.severity, text) for condition, _, text in findings(self._history)]
        return sorted(found, key=lambda alert: alert.severity != "page")

    def _value(self, name: str, labels: Labels = ()) -> float | None:
        return self._history.now(f"switchyard_{name}").get(labels)

    def _beat(self) -> Machine:
        ticked = self._value("beat_last_tick_timestamp_seconds")
        said = f"ticked {_age(time.time() - ticked)} ago" if ticked else "never ticked"
        leads = bool(self._value("beat_leases"))
        return Machine("beat", "success" if leads else "failure", said if leads else f"none leads, {said}")

    def _dispatcher(self) -> Machine:
        sweep, lag = self._value("dispatcher_sweep_age_seconds"), self._value("dispatcher_lag_seconds") or 0
        if sweep is None:
            return Machine("dispatcher", "failure", "has never swept")
        late = max(sweep, lag) > 30
        behind = f", {_age(lag)} behind" if lag > 1 else ""
        return Machine("dispatcher", "failure" if late else "success", f"swept {_age(sweep)} ago{behind}")

    def _broker(self) -> Machine:
        if not self._value("redis_up"):
            return Machine("broker", "failure", "Redis does not answer")
        return Machine("broker", "success", f"{(self._value('redis_memory_bytes') or 0) / MEGABYTE:.0f} MB in use")

    def _database(self) -> Machine:
        if not self._value("database_up"):
            return Machine("database", "failure", "PostgreSQL does not answer")
        used, limit = self._value("postgres_connections") or 0, self._value("postgres_connections_limit") or 0
        return Machine("database", "success", f"{used:.0f} of {limit:.0f} connections")


lookout = Lookout()


def _age(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
