"""Celery's canvas does not know jobs yet: whatever would put one into it is refused before a message is sent."""

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from celery.app.amqp import AMQP
from celery.canvas import Signature

from jobs import registry
from jobs.errors import NotSupported

FIELDS = {"callbacks": "link", "errbacks": "link_error"}
# Celery's own tasks that call another task's body in their own process.
MAPS = ("celery.map", "celery.starmap", "celery.chunks")


def refusal(field: str) -> NotSupported:
    return NotSupported(f"/{field}", "jobs do not take this option yet; submit the next job from the task's body")


@Signature.register_type("job")
class JobSignature(Signature):
    """A call of a job to be made later, alone. A group freezes all its members before it sends the first one."""

    @classmethod
    def from_dict(cls, d: dict[str, Any], app: Any = None) -> "JobSignature":
        return cls(d, app=app)  # type: ignore[arg-type]

    def freeze(self, _id: Any = None, group_id: Any = None, chord: Any = None, *_: Any, **__: Any) -> NoReturn:
        raise refusal("chord" if chord else "group" if group_id else "chain")


class JobAMQP(AMQP):
    """Makes the messages of all other tasks; none may carry a job that is to run after it, or in it."""

    def as_task_v2(self, *args: Any, **kwargs: Any) -> Any:
        message = super().as_task_v2(*args, **kwargs)
        _, named, embedded = message.body
        carried = embedded | {"map": named.get("task") if message.headers["task"] in MAPS else None}
        for field, inside in carried.items():
            if any(_jobs_in(inside)):
                raise refusal(FIELDS.get(field, field))
        return message


def _jobs_in(value: Any) -> Iterator[str]:
    """The names of the jobs that a signature, or whatever holds signatures, would call."""
    if isinstance(value, Mapping):
        if value.get("task") in registry.tasks():
            yield value["task"]
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _jobs_in(each)
