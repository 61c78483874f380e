"""Pausing a queue: a row, so it outlives restarts. Running jobs finish; waiting ones wait."""

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from jobs.errors import Conflict, InvalidJob
from jobs.models import Event, Queue


def pause(name: str, *, actor: str, reason: str) -> None:
    """Let nothing of this queue start until it is resumed; raises Conflict when it is paused already."""
    with transaction.atomic():
        Queue.objects.get_or_create(name=known(name))
        paused = Queue.objects.filter(name=name, paused_at=None)
        if not paused.update(paused_at=Now(), paused_by=actor, pause_reason=reason):
            raise Conflict(f"Queue '{name}' is paused already.")
        Event.objects.create(verb="queue paused", actor=actor, reason=reason, details={"queue": name})


def resume(name: str, *, actor: str, reason: str = "") -> None:
    """Let a paused queue go on; raises Conflict when it is not paused."""
    with transaction.atomic():
        resumed = Queue.objects.filter(name=known(name)).exclude(paused_at=None)
        if not resumed.update(paused_at=None, paused_by="", pause_reason=""):
            raise Conflict(f"Queue '{name}' is not paused.")
        Event.objects.create(verb="queue resumed", actor=actor, reason=reason, details={"queue": name})


def known(name: str) -> str:
    """The name, if the house has such a queue; raises InvalidJob."""
    if name not in settings.JOB_QUEUES:
        raise InvalidJob("/queue", f"{name!r} is unknown; there are {', '.join(settings.JOB_QUEUES)}")
    return name
