"""Times in scenarios: spans from the start, local times of the book's zone, or RFC 3339."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from triggers.durations import add_days, from_local, instant_of, to_local

_SPAN = re.compile(r"([+-]?)((?:[0-9]{1,6}(?:ms|s|m|h|d))+)")
_PART = re.compile(r"([0-9]{1,6})(ms|s|m|h|d)")
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_LOCAL = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}(:[0-9]{2})?")
START = "2026-03-02 10:00"


class TimeTextError(ValueError):
    """A text that is no time of a scenario."""


@dataclass(frozen=True, slots=True)
class Times:
    """Reads the times of one scenario: ``start_ms`` is its start, ``zone`` the book's zone."""

    start_ms: int
    zone: str

    def read(self, text: str, before_ms: int | None = None) -> int:
        """An instant in ms; ``before_ms`` is what ``+10m`` counts from, where that is allowed."""
        span = _SPAN.fullmatch(text)
        if span is None:
            return absolute(text, self.zone)
        if span[1] == "+":
            if before_ms is None:
                raise TimeTextError(f"{text}: + counts from the event before; there is none here")
            return self._moved(before_ms, span[2], 1)
        return self._moved(self.start_ms, span[2], -1 if span[1] else 1)

    def _moved(self, from_ms: int, parts: str, sign: int) -> int:
        at = from_ms
        for count, unit in _PART.findall(parts):
            if unit == "d":  # days are those of the calendar, as in rules
                at = add_days(at, sign * int(count), self.zone)
            else:
                at += sign * int(count) * _UNIT_MS[unit]
        return at

    def show(self, at_ms: int) -> str:
        """An instant as local time of the book's zone."""
        local = to_local(at_ms, self.zone)
        text = local.strftime("%Y-%m-%d %H:%M:%S")
        return text + (f".{at_ms % 1000:03d}" if at_ms % 1000 else "")


def absolute(text: str, zone: str) -> int:
    """``2026-03-02 10:00[:00]`` in ``zone``, or RFC 3339 with an offset, in ms."""
    if _LOCAL.fullmatch(text):
        try:
            return from_local(datetime.fromisoformat(text), zone)
        except ValueError:
            pass
    found = instant_of(text)
    if found is None:
        raise TimeTextError(
            f"{text!r} is no time such as 0s, 1d2h30m, -7d, +10m, "
            "2026-03-02 10:00 or 2026-03-02T10:00:00+09:00"
        )
    return found
