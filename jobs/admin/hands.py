"""What the admin asks of worker processes: to end when their jobs have, and to grow or shrink."""

from collections.abc import Callable, Sequence
from typing import Any

from celery import current_app
from kombu.exceptions import OperationalError

from api.confirmation import Verb, row_by_row
from api.tally import Tally, on_each
from jobs.errors import Conflict
from jobs.models import Event, Worker

# Longer than a busy machine takes; who answers sooner is not waited for.
ANSWER_SECONDS = 5.0


def _asking(verb: str, ask: Callable[[Worker], Any]) -> Callable[..., Tally]:
    """Ask each worker over the broker, and note who asked."""

    def act(worker: Worker, actor: str, reason: str) -> None:
        try:
            ask(worker)
        except OperationalError as error:
            raise Conflict(f"{worker.name} was not told: Redis does not answer.") from error
        Event.objects.create(verb=verb, actor=actor, reason=reason, details={"worker": worker.name})

    def act_on_all(workers: Sequence[Worker], *, actor: str, reason: str) -> Tally:
        return on_each(workers, lambda worker: act(worker, actor, reason), refusals=(Conflict,))

    return act_on_all


def _stop(worker: Worker) -> None:
    current_app.control.shutdown(destination=[worker.name])


def _resize(command: str) -> Callable[[Worker], None]:
    def resize(worker: Worker) -> None:
        said: Any = current_app.control.broadcast(
            command, arguments={"n": 1}, destination=[worker.name], reply=True, timeout=ANSWER_SECONDS
        )
        answers = [answer for each in said or () for answer in each.values()]
        if not answers:
            raise Conflict(f"{worker.name} has not answered yet: its number of processes will tell.")
        if "ok" not in answers[0]:
            raise Conflict(f"{worker.name} did not agree: {answers[0].get('error')}.")

    return resize


def _why_not(worker: Worker) -> str | None:
    if worker.kind != Worker.Kind.WORKER:
        return "it is not a worker"
    return None if worker.state == Worker.State.UP else f"it is {worker.get_state_display().lower()}"


WORKER_VERBS = (
    Verb(
        name="grow",
        label="Grow",
        done="One process more",
        permission="jobs.control_worker",
        consequence="The worker starts one more process and can run one more job at a time.",
        act=_asking("worker grown", _resize("pool_grow")),
        refusals=row_by_row(_why_not),
        needs_reason=False,
    ),
    Verb(
        name="shrink",
        label="Shrink",
        done="One process fewer",
        permission="jobs.control_worker",
        consequence="The worker ends one idle process and runs one job fewer at a time.",
        act=_asking("worker shrunk", _resize("pool_shrink")),
        refusals=row_by_row(
            lambda worker: _why_not(worker) or ("it has one process" if worker.concurrency < 2 else None)
        ),
        needs_reason=False,
    ),
    Verb(
        name="stop",
        label="Shut down",
        done="Told to shut down",
        permission="jobs.control_worker",
        consequence="The worker takes nothing new, finishes what runs, and ends. A supervisor may start it again.",
        act=_asking("worker told to stop", _stop),
        refusals=row_by_row(_why_not),
        is_destructive=True,
    ),
)
