"""The metrics of the last minutes, as `manage.py watch` remembers them."""

from collections import deque
from collections.abc import Iterable

from prometheus_client.core import Metric

Labels = tuple[tuple[str, str], ...]
Values = dict[Labels, float]
Samples = dict[str, Values]
KEPT_SECONDS = 20 * 60.0
# Only of these does anybody ask what they were; all metrics of 20 minutes would be 15 MB.
REMEMBERED = {
    "switchyard_queue_depth",
    "switchyard_jobs_dead_lettered_total",
    "switchyard_jobs_failed_total",
    "switchyard_attempts_ended_total",
    "switchyard_attempts_retried_total",
    "switchyard_attempt_deaths_total",
}


def samples(families: Iterable[Metric]) -> Samples:
    """Values by metric and labels, under the names Prometheus knows them by."""
    found: Samples = {}
    for family in families:
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


class History:
    """Looks in the order of time; the moments are seconds of any one clock."""

    def __init__(self) -> None:
        self._now: Samples = {}
        self._looks: deque[tuple[float, Samples]] = deque()

    def add(self, moment: float, look: Samples) -> None:
        self._now = look
        self._looks.append((moment, {name: look[name] for name in REMEMBERED & look.keys()}))
        while self._looks[0][0] < moment - KEPT_SECONDS:
            self._looks.popleft()

    def now(self, name: str) -> Values:
        return self._now.get(name, {})

    def value(self, name: str) -> float | None:
        """Of a metric without labels; None when it was not there."""
        return self.now(name).get(())

    def rise(self, name: str, seconds: float) -> Values:
        """How much each series has risen in the last `seconds`; one that fell, a reset, has risen by what it is."""
        before = self._before(name, seconds)
        return {labels: _rise(before.get(labels, 0.0), value) for labels, value in self.now(name).items()}

    def change(self, name: str, seconds: float) -> Values:
        """The same for a gauge, which may fall."""
        before = self._before(name, seconds)
        return {labels: value - before.get(labels, value) for labels, value in self.now(name).items()}

    def _before(self, name: str, seconds: float) -> Values:
        """The oldest look of the window that has the metric at all: an outage inside it must not look like zeros."""
        if name not in REMEMBERED:
            raise KeyError(f"{name} is not remembered.")
        since = self._looks[-1][0] - seconds
        return next((look[name] for moment, look in self._looks if moment >= since and name in look), {})


def per(values: Values, label: str) -> dict[str, float]:
    """Sums over everything but one label."""
    sums: dict[str, float] = {}
    for labels, value in values.items():
        name = dict(labels).get(label, "")
        sums[name] = sums.get(name, 0.0) + value
    return sums


def _rise(before: float, now: float) -> float:
    return now - before if now >= before else now
