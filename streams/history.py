"""Recorded events in files: JSON lines of contract events, plain or gzip, merged by time."""

import gzip
import heapq
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from triggers.events import CATALOG, EVENT_TYPES, TOPICS, EventType
from triggers.rfc3339 import rfc3339_ms

_RANKS = {topic: rank for rank, topic in enumerate((CATALOG, *TOPICS))}
_RANK_BY_TYPE = {kind.name: _RANKS[kind.topic] for kind in EVENT_TYPES.values()}
_UNKNOWN_RANK = len(_RANKS)
#: What is read of a line: more than the door takes, so that a longer one is refused as too large.
LINE_BYTES_MAX = 300 * 1024


class Line(NamedTuple):
    """One line of a file, in the order in which lines are applied: time, topic, file, number."""

    at_ms: int
    rank: int
    file_index: int
    number: int
    file: str
    value: bytes


class _Head(msgspec.Struct, gc=False):
    """What ordering needs of an event."""

    time: str
    type: str


_head = msgspec.json.Decoder(_Head).decode


def open_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file without their ends; ``.gz`` files are unpacked on the way."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
        while line := stream.readline(LINE_BYTES_MAX):
            kept = line
            while len(line) == LINE_BYTES_MAX and not line.endswith(b"\n"):
                line = stream.readline(LINE_BYTES_MAX)  # the rest of a line that is refused
            yield kept.rstrip(b"\r\n")


def _read(path: Path, index: int, ranks: Mapping[str, int]) -> Iterator[Line]:
    name = str(path)
    at_ms = 0
    for number, value in enumerate(open_lines(path), start=1):
        if not value:
            continue
        rank = _UNKNOWN_RANK
        try:
            head = _head(value)
            time_ms = rfc3339_ms(head.time)
            if time_ms is not None:
                # Inside a file the order of lines is kept even where times go back.
                at_ms = max(at_ms, time_ms)
            rank = ranks.get(head.type, _UNKNOWN_RANK)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # the door will say what is wrong with it, at the time of the line before
        yield Line(at_ms, rank, index, number, name, value)


def topics_of(custom: Mapping[str, EventType]) -> dict[str, str]:
    """Type name -> topic of the types that a rule book declares."""
    return {name: declared.topic for name, declared in custom.items()}


def read_lines(paths: Iterable[Path], custom: Mapping[str, str] | None = None) -> Iterator[Line]:
    """All lines of ``paths``, merged by time; equal times by topic, then file, then line.

    ``custom`` names the topics of types that a rule book declares.
    """
    ranks = {**{name: _RANKS[topic] for name, topic in (custom or {}).items()}, **_RANK_BY_TYPE}
    return heapq.merge(*(_read(path, index, ranks) for index, path in enumerate(paths)))
