"""The states of a job and the legal moves between them: the one table everything else is derived from.

The states are Celery's own, so Flower and AsyncResult show what the row says.
"""

from django.db.models import TextChoices


class State(TextChoices):
    PENDING = "PENDING", "Pending"
    STARTED = "STARTED", "Started"
    RETRY = "RETRY", "Retry"
    SUCCESS = "SUCCESS", "Success"
    FAILURE = "FAILURE", "Failure"
    REVOKED = "REVOKED", "Revoked"


TRANSITIONS: dict[State, dict[State, str]] = {
    State.PENDING: {State.STARTED: "claimed", State.REVOKED: "cancelled or expired"},
    State.STARTED: {
        State.SUCCESS: "finished",
        State.RETRY: "failed or died, tries left",
        State.FAILURE: "out of retries or deaths, or abandoned",
        State.REVOKED: "cancelled while running",
        State.PENDING: "released by a stop",
    },
    State.RETRY: {
        State.STARTED: "claimed",
        State.REVOKED: "cancelled or expired",
        State.PENDING: "retry now",
    },
    State.SUCCESS: {},
    State.FAILURE: {State.PENDING: "replayed"},
    State.REVOKED: {State.PENDING: "reinstated"},
}

WAITING = (State.PENDING, State.RETRY)
FINAL = (State.SUCCESS, State.FAILURE, State.REVOKED)


def sources(target: State) -> list[State]:
    """The states a job may be in just before it moves to `target`."""
    return [state for state, moves in TRANSITIONS.items() if target in moves]


def diagram() -> str:
    """The table as a Mermaid state diagram; docs/states.md holds this text."""
    lines = ["stateDiagram-v2", "    [*] --> PENDING: submitted"]
    for state, moves in TRANSITIONS.items():
        lines += [f"    {state.value} --> {target.value}: {verb}" for target, verb in moves.items()]
    lines.append("    SUCCESS --> [*]")
    return "\n".join(lines)
