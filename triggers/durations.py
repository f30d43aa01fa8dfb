"""Time spans of rules and the calendar they live in.

All instants are integers: milliseconds since 1970-01-01T00:00:00Z. Nothing here asks what time
it is.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from triggers.errors import DurationError

_SPAN = re.compile(r"([1-9][0-9]{0,5})(s|m|h|d)")
_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
DAY_MS: Final = 86_400_000
#: A hundred years: further away the calendar ends.
SPAN_MS_MAX: Final = 36_500 * DAY_MS


@dataclass(frozen=True, slots=True)
class Duration:
    """A span such as ``90s``, ``30m``, ``12h`` or ``7d``.

    ``ms`` is its exact length with days of 24 hours (windows, cooldowns); ``days`` is non-zero
    for spans written in days, which timers count on the calendar.
    """

    text: str
    ms: int
    days: int

    def after(self, at_ms: int, zone: str) -> int:
        """The instant this span after ``at_ms``: days at the same local time in ``zone``."""
        return add_days(at_ms, self.days, zone) if self.days else at_ms + self.ms

    def before(self, at_ms: int, zone: str) -> int:
        """The instant this span before ``at_ms``, counted like :meth:`after`."""
        return add_days(at_ms, -self.days, zone) if self.days else at_ms - self.ms


@lru_cache(maxsize=1024)
def parse_duration(text: str) -> Duration:
    """Read ``90s``, ``30m``, ``12h``, ``7d``; raises :class:`DurationError` for anything else."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise DurationError(f"{text!r} is not a duration such as 90s, 30m, 12h or 7d")
    count, unit = int(match[1]), match[2]
    if count * _UNIT_MS[unit] > SPAN_MS_MAX:
        raise DurationError(f"{text!r} is longer than {SPAN_MS_MAX // DAY_MS}d")
    return Duration(text, count * _UNIT_MS[unit], count if unit == "d" else 0)


def add_days(at_ms: int, days: int, zone: str) -> int:
    """Move ``at_ms`` by calendar days, keeping the local time of day in the IANA ``zone``.

    A local time that does not exist moves forward by the gap; of one that exists twice the first
    is taken. Both are what ``fold=0`` means in PEP 495.
    """
    moment = (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(ZoneInfo(zone))
    # Days are added to what a clock on the wall shows, and the sum has fold=0.
    return (moment + timedelta(days=days) - _EPOCH) // _MILLISECOND


def to_local(at_ms: int, zone: str) -> datetime:
    """The naive local time of an instant in ``zone``."""
    moment = _EPOCH + timedelta(milliseconds=at_ms)
    return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def from_local(local: datetime, zone: str) -> int:
    """The instant of a naive local time in ``zone``, by the rule of :func:`add_days`."""
    return (local.replace(tzinfo=ZoneInfo(zone), fold=0) - _EPOCH) // _MILLISECOND


def to_ms(text: str) -> int:
    """The instant of an RFC 3339 text with an offset; raises ``ValueError`` for anything else."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time needs an offset")
    return (moment - _EPOCH) // _MILLISECOND


@lru_cache(maxsize=64)
def _day_text(day: int) -> str:
    return (_EPOCH + timedelta(days=day)).strftime("%Y-%m-%d")


# An instant is written for every record that leaves: pieces from tables need no formatting.
_MINUTE_TEXTS: Final = tuple(
    f"T{hour:02d}:{minute:02d}:" for hour in range(24) for minute in range(60)
)
_SECOND_TEXTS: Final = tuple(f"{second:02d}." for second in range(60))
_MILLISECOND_TEXTS: Final = tuple(f"{ms:03d}Z" for ms in range(1000))


def to_text(at_ms: int) -> str:
    """An instant as RFC 3339 in UTC with milliseconds: ``2026-01-31T09:00:00.000Z``."""
    # No divmod: compiled, it is a call that makes a tuple, where these are a few instructions.
    day = at_ms // DAY_MS
    rest = at_ms - day * DAY_MS
    minute = rest // 60_000
    rest -= minute * 60_000
    second = rest // 1000
    ms = rest - second * 1000
    date, time = _day_text(day), _MINUTE_TEXTS[minute]
    return f"{date}{time}{_SECOND_TEXTS[second]}{_MILLISECOND_TEXTS[ms]}"


def instant_of(value: object) -> int | None:
    """The instant that a rule's date names; None for what is no RFC 3339 time with an offset.

    A date so far away that counting from it could leave the calendar is none either.
    """
    try:
        at_ms = to_ms(value) if isinstance(value, str) and value else None
    except (ValueError, OverflowError):
        return None
    return at_ms if at_ms is not None and abs(at_ms) <= SPAN_MS_MAX * 3 else None


@dataclass(frozen=True, slots=True)
class DailyWindow:
    """A span of local time of day, from ``start_min`` (inclusive) to ``end_min`` (exclusive).

    Minutes since local midnight; a window whose start lies after its end goes over midnight. Both
    ends are instants by the rule of :func:`add_days`, so on the day of a clock change the window
    begins and ends once.
    """

    start_min: int
    end_min: int

    def holds(self, at_ms: int, zone: str) -> bool:
        """Whether the instant lies inside the window in ``zone``."""
        return self._end_of(at_ms, zone) is not None

    def end_after(self, at_ms: int, zone: str) -> int:
        """The end of the window that holds at ``at_ms``."""
        end = self._end_of(at_ms, zone)
        if end is None:
            raise DurationError("no daily window holds at that instant")
        return end

    def _end_of(self, at_ms: int, zone: str) -> int | None:
        for start, end in _spans(self.start_min, self.end_min, zone, at_ms // DAY_MS):
            if start <= at_ms < end:
                return end
        return None


@lru_cache(maxsize=1024)
def _spans(start_min: int, end_min: int, zone: str, day: int) -> list[tuple[int, int]]:
    """The spans of a daily window that may touch a day of UTC, oldest first."""
    if start_min == end_min:
        return []
    overnight = timedelta(days=start_min > end_min)
    utc_midnight = datetime(1970, 1, 1) + timedelta(days=day)  # noqa: DTZ001 - local, zone follows
    found = []
    for offset in (-2, -1, 0, 1):
        midnight = utc_midnight + timedelta(days=offset)
        start = from_local(midnight + timedelta(minutes=start_min), zone)
        end = from_local(midnight + overnight + timedelta(minutes=end_min), zone)
        found.append((start, end))
    return found
