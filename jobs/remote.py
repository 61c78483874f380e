"""Celery's remote control, where it would touch jobs: Flower's revoke and terminate buttons cancel the job,
and its grow, shrink and shutdown buttons change the row of the worker too.

Job ids never enter Celery's set of revoked ids, which would discard a replay under the same id for three
hours. Revoking by stamped headers stays Celery's own: tickets carry no stamps.
"""

import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID

from celery.worker import control

from jobs import cancellation
from jobs.errors import Conflict
from jobs.models import Job
from jobs.parent import parent

logger = logging.getLogger("jobs")
ACTOR = "celery remote control"
_revoke, _terminate = control.revoke, control.terminate  # type: ignore[attr-defined]
_grow, _shrink = control.pool_grow, control.pool_shrink  # type: ignore[attr-defined]
_shutdown = control.shutdown  # type: ignore[attr-defined]


@control.control_command(
    variadic="task_id", signature="[id1 [id2 [... [idN]]]]", args=[("task_id", str)], name="revoke"
)
def revoke(state: Any, task_id: Any, terminate: bool = False, signal: str | None = None, **_: Any) -> Any:
    """Cancel jobs; hand other ids to Celery's own revoke."""
    return _cancel_or(task_id, lambda rest: _revoke(state, rest, terminate=terminate, signal=signal))


@control.control_command(
    variadic="task_id", signature="<signal> [id1 [id2 [... [idN]]]]", args=[("signal", str), ("task_id", str)],
    name="terminate",
)  # fmt: skip
def terminate(state: Any, signal: str, task_id: Any, **_: Any) -> Any:
    """Cancel jobs; hand other ids to Celery's own terminate."""
    return _cancel_or(task_id, lambda rest: _terminate(state, signal, rest))


@control.control_command(args=[("n", int)], signature="[N=1]", name="pool_grow")
def pool_grow(state: Any, n: int = 1, **_: Any) -> Any:
    """Celery's own, and the worker's row says its new size."""
    return _noting_size(state, _grow(state, n))


@control.control_command(args=[("n", int)], signature="[N=1]", name="pool_shrink")
def pool_shrink(state: Any, n: int = 1, **_: Any) -> Any:
    """Celery's own, and the worker's row says its new size."""
    return _noting_size(state, _shrink(state, n))


@control.control_command(signature="", name="shutdown")
def shutdown(state: Any, msg: str = "Got shutdown from remote", **_: Any) -> Any:
    """Celery's own, and the worker's row says that it is stopping, as it does when a signal stops it."""
    if parent.heartbeat is not None:
        parent.heartbeat.stop_claiming()
    return _shutdown(state, msg)


def _noting_size(state: Any, answer: Any) -> Any:
    if parent.heartbeat is not None:
        parent.heartbeat.concurrency = state.consumer.pool.num_processes
        parent.heartbeat.wake()
    return answer


def _cancel_or(task_id: Any, stock: Callable[[list[str]], Any]) -> dict[str, str]:
    """In the event loop, so only hand over: the beat thread looks the ids up."""
    ids = [task_id] if isinstance(task_id, str) else list(task_id or [])
    parent.hand_over(lambda: _cancel_jobs(ids, stock))
    return {"ok": f"{len(ids)} ids handed over: jobs are cancelled, other tasks revoked"}


def _cancel_jobs(ids: list[str], stock: Callable[[list[str]], Any]) -> None:
    jobs = {str(pk) for pk in Job.objects.filter(pk__in=filter(None, map(_uuid, ids))).values_list("pk", flat=True)}
    for job in jobs:
        try:
            cancellation.cancel(UUID(job), actor=ACTOR)
        except Conflict as conflict:
            logger.info("not cancelled", extra={"reason": str(conflict)})
    if rest := [each for each in ids if each not in jobs]:
        parent.worker.hub.call_soon(stock, rest)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
