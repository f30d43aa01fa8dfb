"""The door: records become events, or are refused with a reason.

The hot path decides nothing but "surely fine": it decodes with limits, in one go, and whatever it
does not like goes to `streams.refusals`, which looks again, slowly, in the order of the reasons.
So a record costs a few microseconds, and a bad one tells exactly what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple, Union

import msgspec
from msgspec import Struct

from streams.binarymode import from_headers
from streams.clock import TIME_MAX_MS, TIME_MIN_MS
from streams.fieldchecks import Check, compile_always, compile_texts, fits, is_sku
from streams.jsontext import DEPTH_MAX, too_deep
from streams.murmur2 import Places
from streams.refusals import (
    AHEAD_MS_MAX,
    FUTURE_MS_MAX,
    VALUE_BYTES_MAX,
    Slow,
    catalog_key,
    parse_catalog_key,
)
from triggers.errors import Refused
from triggers.events import (
    CATALOG,
    EVENT_TYPES,
    ID_BYTES_MAX,
    CatalogEvent,
    Event,
    EventType,
    Tombstone,
)
from triggers.fields import Id
from triggers.rfc3339 import rfc3339_ms

Headers = Iterable[tuple[str, bytes | None]] | None

_OPEN_BRACE, _OPEN_BRACKET, _BACKSLASH, _GREATER, _HASH = b"{[\\>#"
_NEXT_IN_LIST: Final = b"},{"

# The shortest envelope takes more than 100 bytes beside any one text in it.
_SURELY_SHORT_BYTES: Final = ID_BYTES_MAX + 100


class _Known(NamedTuple):
    """What the hot path needs of a type."""

    topic: str
    name: str
    always: Check | None
    texts: Check | None


def _envelope_of(declared: EventType) -> type[Struct]:
    """The envelope as the hot path takes it, of one type: the type tells what `data` must be."""
    fields: list[tuple[str, Any]] = [
        ("specversion", Literal["1.0"]),
        ("id", Id),
        ("source", Id),
        ("time", str),
        ("subject", Id),
        ("data", declared.data),
    ]
    return msgspec.defstruct("Envelope", fields, tag_field="type", tag=declared.name, gc=False)


class _Fast:
    """The hot path: an event, or None where a second look has to decide."""

    def __init__(self, types: Mapping[str, EventType]) -> None:
        self._known = {
            _envelope_of(declared): _Known(
                declared.topic, name, compile_always(declared.data), compile_texts(declared.data)
            )
            for name, declared in types.items()
        }
        # One pass: with the type in front or behind, `data` is decoded as what it must be.
        kinds: Any = Union[tuple(self._known)]  # noqa: UP007 - made at run time
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(kinds).decode

    def event(self, topic: str | None, value: bytes) -> Event | None:
        """The event in `value`; `topic` None: whichever the type belongs to."""
        size = len(value)
        if size > VALUE_BYTES_MAX:
            return None
        brackets = value.count(_OPEN_BRACE)
        if _OPEN_BRACKET in value:
            brackets += value.count(_OPEN_BRACKET)
        # Nesting cannot be deeper than there are brackets, which are quicker counted; nor does one
        # that follows its neighbour in a list add to it, be that list only the inside of a text.
        if brackets > DEPTH_MAX:
            brackets -= value.count(_NEXT_IN_LIST)
            if brackets > DEPTH_MAX and too_deep(value):
                return None
        try:
            # msgspec checks the UTF-8 of what it keeps, not of what it skips.
            ascii_only = value.isascii() or not value.decode()
            envelope = self._decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        of_topic, kind, always, texts = self._known[type(envelope)]
        data = envelope.data
        if topic is not None and of_topic != topic:
            return None
        if always is not None and always(data) is not None:
            return None
        # Where a text may take more bytes than characters, and where the whole value is not too
        # short to hold one that is too long (what an escape stands for is never longer than it).
        escapes = _BACKSLASH in value
        long = size > _SURELY_SHORT_BYTES and (escapes or not ascii_only)
        if long and not (fits(envelope.subject) and fits(envelope.id) and fits(envelope.source)):
            return None
        # A sku has forbidden characters, which an escape may stand for.
        if texts is not None:
            suspect = long or escapes or _GREATER in value or _HASH in value
            if suspect and texts(data) is not None:
                return None
        time_ms = rfc3339_ms(envelope.time)
        if time_ms is None or not TIME_MIN_MS <= time_ms <= TIME_MAX_MS:
            return None
        return Event(envelope.id, envelope.source, kind, envelope.subject, time_ms, data)


class Door:
    """The door of one deployment: its number of partitions and its declared types."""

    def __init__(self, partitions: int, custom: Mapping[str, EventType] | None = None) -> None:
        """`custom`: the types that the rule book declares beside the contract's."""
        types = {**(custom or {}), **EVENT_TYPES}
        self._places = Places(partitions)
        self._fast = _Fast(types)
        self._slow = Slow(types)

    def decode(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        timestamp_ms: int,
        now_ms: int,
    ) -> Event:
        """The event of a record on `topic` (without prefix); raises `Refused`.

        `timestamp_ms` is the record's, `now_ms` the worker's clock.
        """
        binary = from_headers(headers) if headers else None
        event = self._fast.event(topic, value) if value is not None and binary is None else None
        if event is None:
            event = self._slow.event(topic, value, binary)
        if event.time_ms - timestamp_ms > AHEAD_MS_MAX:
            raise Refused("time_out_of_range", "time: more than 24 h after the record's timestamp")
        # The log's own clock stands where the records say, so the calendar bounds them, too.
        ahead = timestamp_ms - now_ms > FUTURE_MS_MAX or timestamp_ms > TIME_MAX_MS
        if timestamp_ms < 0 or ahead:
            raise Refused("time_out_of_range", "the record's timestamp")
        if key != event.subject.encode():
            raise Refused("key_mismatch", "the key is not the subject")
        if self._places.of(key) != partition:
            raise Refused("wrong_partition", f"the key belongs on {self._places.of(key)}")
        return event

    def decode_catalog(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        timestamp_ms: int,
    ) -> CatalogEvent | Tombstone:
        """The catalogue's record; a null value takes away what its key had set. `Refused`."""
        if value is None:
            return parse_catalog_key(key)
        binary = from_headers(headers) if headers else None
        event = self._fast.event(CATALOG, value) if binary is None else None
        if event is None:
            event = self._slow.event(CATALOG, value, binary)
        found = _as_catalog(event)
        if timestamp_ms < 0 or found.time_ms - timestamp_ms > AHEAD_MS_MAX:
            raise Refused("time_out_of_range", "time, or the record's timestamp")
        if key != catalog_key(found):
            raise Refused("key_mismatch", "the key is not the one of this type and sku")
        return found


class LineDoor:
    """The door of recorded files: the type tells the topic, and there is no record around it."""

    def __init__(self, custom: Mapping[str, EventType] | None = None) -> None:
        """`custom`: the types that the rule book declares beside the contract's."""
        types = {**(custom or {}), **EVENT_TYPES}
        self._fast = _Fast(types)
        self._slow = Slow(types)
        self._catalog = frozenset(name for name, one in types.items() if one.topic == CATALOG)

    def decode(self, line: bytes) -> Event | CatalogEvent:
        """The event of one line; raises `Refused`."""
        event = self._fast.event(None, line)
        if event is None:
            event = self._slow.event(None, line, None)
        return _as_catalog(event) if event.type in self._catalog else event


def _as_catalog(event: Event) -> CatalogEvent:
    """The same event as the catalogue's; raises `Refused`: no sku, or a link to itself."""
    if not is_sku(event.subject):
        raise Refused("bad_envelope", "subject: a sku has neither > nor #")
    if event.subject == getattr(event.data, "to", None):
        raise Refused("bad_data", "data.to: a product has no relation to itself")
    if event.subject in (getattr(event.data, "requires", None) or ()):
        raise Refused("bad_data", "data.requires: a product does not require itself")
    return CatalogEvent(
        event.id, event.source, event.type, event.subject, event.time_ms, event.data
    )


__all__ = ["Door", "Headers", "LineDoor"]
