"""Recorded events in files: JSON lines of contract events, plain or gzip, merged by time."""

import gzip
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from triggers.errors import Refused
from triggers.events import CATALOG, EVENT_TYPES, TOPICS, EventType
from triggers.rfc3339 import rfc3339_ms

_RANKS = {topic: rank for rank, topic in enumerate((CATALOG, *TOPICS))}
_RANK_BY_TYPE = {kind.name: _RANKS[kind.topic] for kind in EVENT_TYPES.values()}
_UNKNOWN_RANK = len(_RANKS)
#: What is read of a line: more than the door takes, so that a longer one is refused as too large.
LINE_BYTES_MAX = 300 * 1024


class Line(NamedTuple):
    """One line of a file, in the order in which lines are applied: time, topic, file, number.

    ``event`` is the decoded line where :func:`read_lines` was given a decoder, or the refusal.
    """

    at_ms: int
    rank: int
    file_index: int
    number: int
    file: str
    value: bytes
    event: Any = None


#: Answers the event of a line, or raises ``Refused``.
Decode = Callable[[bytes], Any]
#: What ordering needs of an event.
_Head = msgspec.defstruct("_Head", [("time", str), ("type", str)], gc=False)
_head: Callable[[bytes], Any] = msgspec.json.Decoder(_Head).decode


def open_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file without their ends; ``.gz`` files are unpacked on the way."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
        while line := stream.readline(LINE_BYTES_MAX):
            kept = line
            while len(line) == LINE_BYTES_MAX and not line.endswith(b"\n"):
                line = stream.readline(LINE_BYTES_MAX)  # the rest of a line that is refused
            yield kept.rstrip(b"\r\n")


def _read(
    path: Path, index: int, ranks: Mapping[str, int], decode: Decode | None
) -> Iterator[Line]:
    name = str(path)
    at_ms = 0
    for number, value in enumerate(open_lines(path), start=1):
        if not value:
            continue
        event = None
        if decode is not None:
            try:
                event = decode(value)
            except Refused as refused:
                event = refused
        if event is None or isinstance(event, Refused):
            time_ms, kind = _glance(value)
        else:
            time_ms, kind = event.time_ms, event.type
        # Inside a file the order of lines is kept even where times go back.
        at_ms = max(at_ms, time_ms)
        yield Line(at_ms, ranks.get(kind, _UNKNOWN_RANK), index, number, name, value, event)


def _glance(value: bytes) -> tuple[int, str]:
    """Time and type as far as they can be told: what is wrong with a line, the door will say, at
    the time of the line before."""
    try:
        head = _head(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0, ""
    return rfc3339_ms(head.time) or 0, head.type


def topics_of(custom: Mapping[str, EventType]) -> dict[str, str]:
    """Type name -> topic of the types that a rule book declares."""
    return {name: declared.topic for name, declared in custom.items()}


def read_lines(
    paths: Iterable[Path],
    custom: Mapping[str, str] | None = None,
    decode: Decode | None = None,
) -> Iterator[Line]:
    """All lines of ``paths``, merged by time; equal times by topic, then file, then line.

    ``custom`` names the topics of types that a rule book declares; ``decode`` turns a line into
    its event on the way, which is cheaper than looking at it twice.
    """
    ranks = {**{name: _RANKS[topic] for name, topic in (custom or {}).items()}, **_RANK_BY_TYPE}
    return heapq.merge(*(_read(path, index, ranks, decode) for index, path in enumerate(paths)))
