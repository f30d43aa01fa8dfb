"""RFC 3339 texts to milliseconds, strictly: further forms of ISO 8601 are refused.

This runs once an event, so the pieces of a text are looked up in small tables: the day
(`2024-05-01T`), the time of day (`12:34:`), the seconds and the rest after them (`.789Z`,
`+09:00`); a day and a rest are parsed once.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_SHAPE: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:)([0-9]{2})"
    r"((?:\.([0-9]+))?(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9])))"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_TEXT_MAX: Final = 64
_TABLE_MAX: Final = 16_384

_SECONDS: Final = {f"{second:02d}": second * 1000 for second in range(60)}
_THREE_DIGITS: Final = frozenset(f"{number:03d}" for number in range(1000))
_MINUTES: Final = {
    f"{hour:02d}:{minute:02d}:": (hour * 60 + minute) * 60_000
    for hour in range(24)
    for minute in range(60)
}
_days: Final[dict[str, int]] = {}
_tails: Final[dict[str, int]] = {}


def rfc3339_ms(text: str) -> int | None:
    """Milliseconds since 1970 of an RFC 3339 text with an offset, or None where it is none.

    Digits beyond the millisecond are cut off. A leap second counts as the second after it.
    Year 0, which `datetime` has not, is None too.
    """
    try:
        return _days[text[:11]] + _MINUTES[text[11:17]] + _SECONDS[text[17:19]] + _tails[text[19:]]
    except KeyError:
        pass
    if text[23:26] in _THREE_DIGITS:
        # Microseconds: too many for a table, and not looked at but for being digits.
        try:
            minute_ms = _days[text[:11]] + _MINUTES[text[11:17]]
            return minute_ms + _SECONDS[text[17:19]] + _tails[text[19:23] + text[26:]]
        except KeyError:
            pass
    return _parse(text)


def _parse(text: str) -> int | None:
    match = _SHAPE.fullmatch(text) if len(text) <= _TEXT_MAX else None
    if match is None:
        return None
    head, seconds, tail, fraction, sign, hours, minutes = match.groups()
    try:
        minute = datetime.fromisoformat(head[:10] + "T" + head[11:16]).replace(tzinfo=UTC)
    except ValueError:
        return None
    minute_ms = (minute - _EPOCH) // _MILLISECOND
    offset_ms = (int(hours) * 60 + int(minutes)) * 60_000 if sign else 0
    tail_ms = int((fraction or "0")[:3].ljust(3, "0")) + (offset_ms if sign == "-" else -offset_ms)
    if seconds not in _SECONDS:
        # A leap second ends a day in UTC; anywhere else it is an error.
        at_ms = minute_ms + 60_000 + tail_ms
        ends_a_day = (minute_ms + 60_000 - (-offset_ms if sign == "-" else offset_ms)) % 86_400_000
        return at_ms if seconds == "60" and ends_a_day == 0 else None
    _remember(_days, head[:11], minute_ms - _MINUTES[head[11:17]])
    _remember(_tails, tail, tail_ms)
    if fraction and len(fraction) == 6:
        _remember(_tails, tail[:4] + tail[7:], tail_ms)
    return minute_ms + _SECONDS[seconds] + tail_ms


def _remember(table: dict[str, int], text: str, value_ms: int) -> None:
    if len(table) >= _TABLE_MAX:
        table.clear()
    table[text] = value_ms
