"""Dead letters as a reader of their topic sees them: values, filters, totals; no Kafka here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from streams.deadletters import TIMERS
from streams.errors import UsageError

_PLACE: Final = re.compile(r"([A-Za-z0-9._-]{1,249})/([0-9]{1,9})/([0-9]{1,18})(?:-([0-9]{1,18}))?")
_ranges = msgspec.json.Decoder(list[tuple[int, int]]).decode
_DIGITS: Final = re.compile(rb"[0-9]{1,18}")


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter.

    `topic` (without prefix), `number` and `offset` say where the refused record lies or lay; a
    letter that stands for several has their number in `count` and their offsets in its value.
    `at_ms` is when the letter was sent.
    """

    reason: str
    detail: str
    topic: str
    number: int
    offset: int
    key: bytes | None
    value: bytes
    sha256: str
    at_ms: int
    count: int = 1

    @property
    def place(self) -> str:
        """`topic/partition/offset` of the refused record: the letter's name."""
        return f"{self.topic}/{self.number}/{self.offset}"

    @property
    def is_summary(self) -> bool:
        """Whether it stands for records whose own letters were not written."""
        return self.count > 1

    @property
    def is_timer(self) -> bool:
        """Whether it tells of a timer that was set aside, not of a record."""
        return self.topic == TIMERS

    @property
    def cut(self) -> bool:
        """Whether the value is only the beginning of what was refused."""
        return not self.is_summary and hashlib.sha256(self.value).hexdigest() != self.sha256

    def offsets(self) -> Iterator[int]:
        """The offsets of the refused records, ascending."""
        if not self.is_summary:
            yield self.offset
            return
        for first, last in _ranges(self.value):
            yield from range(first, last + 1)


def read_letter(record: Any) -> Letter | None:
    """The letter in a record of the topic; None for a record that is none of ours."""
    named = {name: value or b"" for name, value in record.headers or ()}
    numbers = [named.get(name, b"") for name in ("partition", "offset")]
    count = named.get("count", b"1")
    if "reason" not in named or not all(_DIGITS.fullmatch(text) for text in (*numbers, count)):
        return None
    texts = {name: named.get(name, b"").decode(errors="backslashreplace") for name in named}
    letter = Letter(
        reason=texts["reason"],
        detail=texts.get("detail", ""),
        topic=texts.get("topic", ""),
        number=int(numbers[0]),
        offset=int(numbers[1]),
        key=record.key,
        value=record.value or b"",
        sha256=texts.get("sha256", ""),
        at_ms=record.timestamp,
        count=int(count),
    )
    if letter.is_summary:
        try:
            _ranges(letter.value)
        except msgspec.DecodeError:
            return None
    return letter


@dataclass(frozen=True, slots=True)
class Places:
    """One place, or the offsets from `first` to `last` of a topic's partition."""

    topic: str
    number: int
    first: int
    last: int

    def holds(self, letter: Letter, offset: int) -> bool:
        """Whether a record of the letter lies here."""
        same = letter.topic == self.topic and letter.number == self.number
        return same and self.first <= offset <= self.last


def parse_places(text: str) -> Places:
    """`topic/partition/offset` or `topic/partition/first-last`; raises `UsageError`."""
    found = _PLACE.fullmatch(text)
    if found is None:
        raise UsageError(f"{printable(text)}: not TOPIC/PARTITION/OFFSET or TOPIC/PARTITION/A-B")
    first = int(found[3])
    last = first if found[4] is None else int(found[4])
    if last < first:
        raise UsageError(f"{text}: the last offset lies before the first")
    return Places(found[1], int(found[2]), first, last)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters are meant; what is not given does not restrict. Times in ms, inclusive."""

    places: tuple[Places, ...] = ()
    reason: str | None = None
    topic: str | None = None
    number: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    @property
    def is_all(self) -> bool:
        """Whether nothing was asked for in particular."""
        return self == Wanted()

    def takes(self, letter: Letter) -> bool:
        """Whether the letter, or a record that it stands for, is meant."""
        return (
            self.reason in (None, letter.reason)
            and self.topic in (None, letter.topic)
            and self.number in (None, letter.number)
            and (self.since_ms is None or letter.at_ms >= self.since_ms)
            and (self.until_ms is None or letter.at_ms <= self.until_ms)
            and (not self.places or any(True for _ in self.offsets(letter)))
        )

    def offsets(self, letter: Letter) -> Iterable[int]:
        """Those of the letter's offsets that are meant."""
        if not self.places:
            return letter.offsets()
        return (o for o in letter.offsets() if any(p.holds(letter, o) for p in self.places))


def printable(text: str) -> str:
    """The text with everything escaped that could move a cursor or hide something.

    Line ends, control and format characters (also those that turn the direction of writing) and
    half surrogate pairs become `\\x1b`, `\\u202e` and the like.
    """
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text
    )


def printable_bytes(raw: bytes | None) -> str:
    """Bytes for a terminal: UTF-8 as its text, everything else as `\\xff`."""
    if raw is None:
        return "(null)"
    return printable(raw.decode(errors="backslashreplace"))
