"""Recorded events on their way into Kafka: which topic, which key, which time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from streams.errors import StreamsError
from streams.history import Line, read_lines
from triggers.events import EVENT_TYPES

__all__ = ["Recorded", "RecordingError", "read_events"]


class RecordingError(StreamsError):
    """A line of a recording that cannot be sent; the text has its file and number."""


class Recorded(NamedTuple):
    """A recorded event: its topic without prefix, its time, and the record's key and value."""

    topic: str
    ts_ms: int
    key: bytes
    value: bytes


class _Envelope(msgspec.Struct, gc=False):
    type: str
    subject: str
    data: msgspec.Raw = msgspec.Raw(b"{}")


class _Relation(msgspec.Struct, gc=False):
    to: str
    relation: str


_envelope = msgspec.json.Decoder(_Envelope).decode
_relation = msgspec.json.Decoder(_Relation).decode


def read_events(
    paths: Iterable[Path | str], custom_types: Mapping[str, str] | None = None
) -> Iterator[Recorded]:
    """Yield the events of JSONL files (`.gz` too), merged by time as a partition applies them.

    Equal times: catalogue, then the customers' topics in their order, then file and line.
    `custom_types` names the topics of types that a rule book declares. Raises `RecordingError` for
    a line that is no event or of a type without a topic.
    """
    topics = {name: kind.topic for name, kind in EVENT_TYPES.items()} | dict(custom_types or {})
    for line in read_lines((Path(path) for path in paths), custom_types):
        try:
            envelope = _envelope(line.value)
            key = _catalog_key(envelope) if envelope.type.startswith("catalog.") else ""
            topic = topics[envelope.type]
        except KeyError:
            raise RecordingError(f"{_place(line)}: no topic is known for this type") from None
        except (msgspec.DecodeError, UnicodeError) as error:
            raise RecordingError(f"{_place(line)}: no event: {error}") from error
        yield Recorded(topic, line.at_ms, (key or envelope.subject).encode(), line.value)


def _place(line: Line) -> str:
    return f"{line.file}:{line.number}"


def _catalog_key(envelope: _Envelope) -> str:
    """The key under which compaction keeps the last of what this event sets."""
    sku, kind = envelope.subject, envelope.type
    if kind == "catalog.relation_set":
        data = _relation(envelope.data)
        return f"{sku}>{data.to}>{data.relation}"
    if kind in ("catalog.stock_set", "catalog.bundle_set"):
        return f"{sku}#{kind.removeprefix('catalog.').removesuffix('_set')}"
    return sku
