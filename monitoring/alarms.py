"""From what is wrong at each look to what somebody is told: not at the first blink, not twice, and when it is over."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from monitoring.conditions import Condition

# An alarm is over when its condition has not been found for so long; one that flaps is one alarm.
CLEAR_SECONDS = 120.0
# And is told at most so often, however often it comes back.
COOL_DOWN_SECONDS = 900.0
REMIND_SECONDS = 4 * 3600.0


@dataclass(frozen=True)
class Notice:
    kind: Literal["raised", "still", "over"]
    condition: Condition
    subject: str
    text: str


@dataclass
class _Alarm:
    condition: Condition
    text: str
    since: float
    seen: float
    told: float | None = None
    is_raised: bool = False


class Alarms:
    """One alarm per condition and subject; the moments are seconds of any one clock."""

    def __init__(self) -> None:
        self._alarms: dict[tuple[str, str], _Alarm] = {}

    def update(self, found: Iterable[tuple[Condition, str, str]], moment: float) -> list[Notice]:
        """Take in one look; what is to be told because of it."""
        for condition, subject, text in found:
            self._see(condition, subject, text, moment)
        notices = [notice for key in list(self._alarms) if (notice := self._judge(key, moment))]
        self._forget(moment)
        return notices

    def raised(self) -> list[tuple[str, str]]:
        return [key for key, alarm in self._alarms.items() if alarm.is_raised]

    def _see(self, condition: Condition, subject: str, text: str, moment: float) -> None:
        alarm = self._alarms.setdefault((condition.name, subject), _Alarm(condition, text, moment, moment))
        alarm.text, alarm.seen = text, moment

    def _judge(self, key: tuple[str, str], moment: float) -> Notice | None:
        alarm = self._alarms[key]
        if alarm.is_raised:
            return self._judge_raised(key, alarm, moment)
        if alarm.seen < moment:
            # It has to hold without a gap before it is raised.
            alarm.since = float("inf")
            return None
        alarm.since = min(alarm.since, moment)
        rested = alarm.told is None or moment - alarm.told >= COOL_DOWN_SECONDS
        if moment - alarm.since < alarm.condition.holds or not rested:
            return None
        alarm.is_raised, alarm.told = True, moment
        return Notice("raised", alarm.condition, key[1], alarm.text)

    def _judge_raised(self, key: tuple[str, str], alarm: _Alarm, moment: float) -> Notice | None:
        if moment - alarm.seen >= CLEAR_SECONDS:
            alarm.is_raised, alarm.since = False, float("inf")
            return Notice("over", alarm.condition, key[1], alarm.text)
        if alarm.seen == moment and moment - (alarm.told or 0.0) >= REMIND_SECONDS:
            alarm.told = moment
            return Notice("still", alarm.condition, key[1], alarm.text)
        return None

    def _forget(self, moment: float) -> None:
        """Subjects come and go; those long quiet need no memory."""
        quiet = [
            key
            for key, alarm in self._alarms.items()
            if not alarm.is_raised and moment - alarm.seen > COOL_DOWN_SECONDS
        ]
        for key in quiet:
            del self._alarms[key]
