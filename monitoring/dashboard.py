"""The overview: is it flowing, what is failing, who is working."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings

from api.readfirst import duration
from deadletters.groups import Group, open_groups
from jobs.models import Queue
from monitoring.backlog import backlog, drawn
from monitoring.conditions import TOO_OLD, TOO_OLD_OTHERWISE
from monitoring.crew import Crew, crew
from monitoring.lookout import Alert, Machine, lookout
from monitoring.queues import last_hour
from monitoring.snapshot import snapshot
from monitoring.totals import Totals, overall

GROUPS_SHOWN = 5
OFTEN = 0.02


@dataclass(frozen=True)
class Card:
    """A queue: its load now, and its last hour."""

    name: str
    depth: int
    running: int
    oldest: float | None
    paused_by: str
    pause_reason: str
    hour: Totals
    line: str
    area: str
    is_served: bool

    @property
    def is_paused(self) -> bool:
        return bool(self.paused_by)

    @property
    def is_behind(self) -> bool:
        return (self.oldest or 0) > TOO_OLD.get(self.name, TOO_OLD_OTHERWISE)

    @property
    def lamp(self) -> str:
        return "failure" if not self.is_served else "retry" if self.is_paused or self.is_behind else "success"

    @property
    def word(self) -> str:
        if not self.is_served:
            return "No worker"
        return "Paused" if self.is_paused else "Behind" if self.is_behind else "Flowing"

    @property
    def oldest_text(self) -> str:
        return duration(timedelta(seconds=self.oldest)) if self.oldest is not None else ""

    @property
    def per_minute(self) -> str:
        rate = (self.hour.succeeded + self.hour.failed) / 60
        return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"

    @property
    def failed(self) -> str:
        return percent(self.hour)

    @property
    def fails_often(self) -> bool:
        return ratio(self.hour) > OFTEN

    @property
    def wait_p95(self) -> str:
        return milliseconds(self.hour.wait_ms(0.95))

    @property
    def run_p95(self) -> str:
        return milliseconds(self.hour.run_ms(0.95))

    @property
    def note(self) -> str:
        """The cause, in a few words."""
        if not self.is_served:
            return f"No worker takes from {self.name}"
        if self.is_paused:
            return f"Paused by {self.paused_by}{': ' if self.pause_reason else ''}{self.pause_reason}"
        ended = self.hour.succeeded + self.hour.failed
        if not self.depth:
            return "Nothing waits"
        rest = f", empties in {duration(timedelta(hours=self.depth / ended))}" if ended else ""
        return f"Behind its target{rest}" if self.is_behind else f"Keeping up{rest}"


@dataclass(frozen=True)
class Overview:
    queues: list[Card]
    groups: list[Group]
    alerts: list[Alert]
    machinery: list[Machine]
    crew: Crew
    total: Totals
    letters: int

    @property
    def shown(self) -> list[Card]:
        return [card for card in self.queues if card.name in settings.PRIORITIES]

    @property
    def house_queues(self) -> list[Card]:
        return [card for card in self.queues if card.name not in settings.PRIORITIES]

    @property
    def lamp(self) -> str:
        if not self.crew.alive:
            return "failure"
        return "retry" if any(card.lamp != "success" for card in self.shown) or self.crew.silent else "success"

    @property
    def sentence(self) -> str:
        if not self.crew.alive:
            return "No worker is reporting"
        troubles = [_trouble(card) for card in self.shown if card.lamp != "success"]
        if not troubles:
            return "Flowing normally"
        if len(troubles) == 1:
            return f"Flowing, except {troubles[0]}"
        return f"{len(troubles)} queues need a look: {'; '.join(troubles)}"

    @property
    def finished(self) -> int:
        return self.total.succeeded + self.total.failed

    @property
    def failed(self) -> str:
        return percent(self.total)


def overview() -> Overview:
    now, hour, people = snapshot(), last_hour(), crew()
    alerts, machinery = lookout.look()
    return Overview(
        queues=_cards(now["queues"], hour, people),
        groups=open_groups(limit=GROUPS_SHOWN),
        alerts=alerts,
        machinery=machinery,
        crew=people,
        total=overall(hour.values()),
        letters=now["open_dead_letters"],
    )


def ratio(total: Totals) -> float:
    ended = total.succeeded + total.failed
    return total.failed / ended if ended else 0.0


def percent(total: Totals) -> str:
    return f"{ratio(total):.1%}"


def milliseconds(value: float | None) -> str:
    return duration(timedelta(milliseconds=value)) if value is not None else ""


def _cards(load: Sequence[dict[str, Any]], hour: dict[str, Totals], people: Crew) -> list[Card]:
    reasons = dict(Queue.objects.exclude(paused_at=None).values_list("name", "pause_reason"))
    history = backlog({each["name"]: each["depth"] + each["running"] for each in load})
    return [
        Card(
            name=each["name"],
            depth=each["depth"],
            running=each["running"],
            oldest=each["oldest_age_seconds"],
            paused_by=each["paused_by"] if each["paused"] else "",
            pause_reason=reasons.get(each["name"], ""),
            hour=hour.get(each["name"], Totals()),
            line=drawn(history[each["name"]]),
            area=drawn(history[each["name"]], is_area=True),
            is_served=each["name"] in people.queues,
        )
        for each in load
    ]


def _trouble(card: Card) -> str:
    if not card.is_served:
        return f"{card.name}: no worker"
    late = f"{card.oldest_text} behind" if card.is_behind else ""
    return f"{card.name}: {' and '.join(filter(None, ['paused' if card.is_paused else '', late]))}"
