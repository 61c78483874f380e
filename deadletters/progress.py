"""How far a replay is, and what becomes of the jobs it has sent."""

from datetime import timedelta

from django.db.models import Count

from api.readfirst import duration
from deadletters.models import ReplayItem, ReplayOperation
from jobs.states import State

LAMPS: dict[str, str] = {
    ReplayOperation.State.RUNNING: "started",
    ReplayOperation.State.PAUSED: "retry",
    ReplayOperation.State.ABORTED: "revoked",
    ReplayOperation.State.DONE: "success",
}


class Progress:
    """Read once, shown in one panel wherever a replay is shown."""

    def __init__(self, operation: ReplayOperation) -> None:
        self.operation = operation
        sent = operation.items.filter(state=ReplayItem.State.REPLAYED).order_by()
        self._states = dict(sent.values_list("letter__job__state").annotate(Count("pk")))

    @property
    def lamp(self) -> str:
        return LAMPS[self.operation.state]

    @property
    def is_running(self) -> bool:
        return self.operation.state == ReplayOperation.State.RUNNING

    @property
    def is_going(self) -> bool:
        return self.operation.finished_at is None

    @property
    def handled(self) -> int:
        return self.operation.done + self.operation.skipped

    @property
    def percent(self) -> int:
        return round(100 * self.handled / self.operation.total) if self.operation.total else 100

    @property
    def succeeded(self) -> int:
        return self._states.get(State.SUCCESS, 0)

    @property
    def failed_again(self) -> int:
        return self._states.get(State.FAILURE, 0)

    @property
    def in_flight(self) -> int:
        return self.operation.done - self.succeeded - self.failed_again - self._states.get(State.REVOKED, 0)

    @property
    def left(self) -> str:
        """How long the rest takes at this pace."""
        waiting = max(0, self.operation.total - self.handled)
        return duration(timedelta(seconds=waiting / self.operation.pace))
