"""The door's second look: slow, complete, and in the order of the reasons.

It reads with another JSON decoder than the hot path, so that each can be tested by the other.
A detail names the field, never what stood in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple, get_args

import msgspec
from msgspec import Struct

from streams.clock import TIME_MAX_MS, TIME_MIN_MS
from streams.fieldchecks import Check, compile_always, compile_texts, fits, is_sku, surrogate_in
from streams.jsontext import DEPTH_MAX, NotJsonError, is_json, loads, too_deep
from triggers.errors import Refused
from triggers.events import (
    ID_BYTES_MAX,
    CatalogEvent,
    Event,
    EventType,
    RelationSet,
    Tombstone,
)
from triggers.fields import Relation
from triggers.rfc3339 import rfc3339_ms

VALUE_BYTES_MAX: Final = 256 * 1024
#: How far an event's `time` may lie after its record's timestamp.
AHEAD_MS_MAX: Final = 24 * 3_600_000
#: How far a record's timestamp may lie ahead of the worker's clock.
FUTURE_MS_MAX: Final = 60_000

_ATTRIBUTES: Final = ("id", "source", "type", "time", "subject")
_PATH: Final = re.compile(r" - at `(?:key in )?\$([^`]*)`\Z")
_MISSING: Final = re.compile(r"Object missing required field `(\w+)`")
# msgspec's texts that name types and limits only; others quote the value.
_HARMLESS: Final = re.compile(r"Expected `[a-z| ]+`(?:, got `\w+`| [a-z ]*[<>]=? ?[0-9.e+-]+)?\Z")
_CATALOG_MARKS: Final = frozenset({"stock", "bundle"})
_RELATIONS: Final = frozenset(get_args(Relation))
_CATALOG_SUFFIX: Final = {"catalog.stock_set": "#stock", "catalog.bundle_set": "#bundle"}


class Unreadable(bytes):
    """Stands for the value of a record that could not be read; its bytes are none.

    It takes the way of every other value that the hot path does not like, so that no record pays
    for the look at it.
    """

    reason: str
    detail: str

    def __new__(cls, reason: str, detail: str) -> Unreadable:
        """``reason`` and ``detail`` are those of the refusal that it meets at the door."""
        made = super().__new__(cls)
        made.reason, made.detail = reason, detail
        return made


class Envelope(NamedTuple):
    """The attributes of an event whose `data` was not looked at yet."""

    id: str
    source: str
    type: str
    time_ms: int | None
    subject: str
    data: dict[str, object]


class _Declared(NamedTuple):
    topic: str
    data: type[Struct]
    always: Check | None
    texts: Check | None


class Slow:
    """The second look at a record."""

    def __init__(self, types: Mapping[str, EventType]) -> None:
        self._types = {
            name: _Declared(
                one.topic, one.data, compile_always(one.data, True), compile_texts(one.data)
            )
            for name, one in types.items()
        }

    def event(
        self, topic: str | None, value: bytes | None, binary: Mapping[str, bytes | None] | None
    ) -> Event:
        """The event, or `Refused` with the first reason that applies.

        `topic` None: whichever the type belongs to. `binary`: the attributes from the headers.
        """
        parsed = _parse(value, 0 if binary is None else 1)
        envelope = _structured(parsed) if binary is None else _binary(parsed, binary)
        declared = self._types.get(envelope.type)
        if declared is None:
            raise Refused("unknown_type", "type: nobody declares it")
        if topic is not None and declared.topic != topic:
            raise Refused("unknown_type", f"type: it belongs on {declared.topic}")
        data = _payload(envelope.data, declared)
        time_ms = envelope.time_ms
        if time_ms is None or not TIME_MIN_MS <= time_ms <= TIME_MAX_MS:
            raise Refused("time_out_of_range", "time: before 2000 or after 2100")
        return Event(envelope.id, envelope.source, envelope.type, envelope.subject, time_ms, data)


def _parse(value: bytes | None, around: int) -> object:
    """The JSON value of a record; `around`: the levels that its envelope would add."""
    if value is None:
        raise Refused("not_json", "the value is null")
    if isinstance(value, Unreadable):
        raise Refused(value.reason, value.detail)
    if len(value) > VALUE_BYTES_MAX:
        raise Refused("too_large", f"the value has {len(value)} bytes")
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise Refused("not_json", f"no UTF-8 at byte {error.start}") from None
    if too_deep(value, DEPTH_MAX - around):
        if is_json(text):
            raise Refused("too_deep", f"it nests deeper than {DEPTH_MAX}")
        raise Refused("not_json", "broken, and nested deeply")
    try:
        return loads(text)
    except NotJsonError:
        raise Refused("not_json", "no JSON text") from None


def _structured(parsed: object) -> Envelope:
    if not isinstance(parsed, dict):
        raise Refused("bad_envelope", "the value is not an object")
    return _envelope(parsed, parsed.get("data"))


def _binary(parsed: object, headers: Mapping[str, bytes | None]) -> Envelope:
    attributes: dict[str, object] = {}
    for name in ("specversion", *_ATTRIBUTES):
        raw = headers.get(name)
        try:
            attributes[name] = None if raw is None else raw.decode()
        except UnicodeDecodeError:
            raise Refused("bad_envelope", f"ce_{name}: no UTF-8") from None
    return _envelope(attributes, parsed)


def _envelope(found: Mapping[str, object], data: object) -> Envelope:
    if found.get("specversion") != "1.0":
        raise Refused("bad_envelope", 'specversion: not "1.0"')
    texts: dict[str, str] = {}
    for name in _ATTRIBUTES:
        text = found.get(name)
        if not isinstance(text, str):
            raise Refused("bad_envelope", f"{name}: missing, or no string")
        texts[name] = text
    for name in ("id", "source", "subject"):
        if not texts[name] or surrogate_in(texts[name]) is not None or not fits(texts[name]):
            raise Refused("bad_envelope", f"{name}: not 1 to {ID_BYTES_MAX} bytes of UTF-8")
    if not isinstance(data, dict):
        raise Refused("bad_envelope", "data: missing, or no object")
    time_ms = rfc3339_ms(texts["time"])
    # Year 0 is a time by the grammar, though none that can be computed with.
    if time_ms is None and not texts["time"].startswith("0000-"):
        raise Refused("bad_envelope", "time: not RFC 3339 with an offset")
    return Envelope(texts["id"], texts["source"], texts["type"], time_ms, texts["subject"], data)


def _payload(data: dict[str, object], declared: _Declared) -> Struct:
    try:
        payload: Struct = msgspec.convert(data, declared.data)
    except msgspec.ValidationError as error:
        raise Refused("bad_data", _detail(str(error))) from None
    except UnicodeEncodeError:
        raise Refused("bad_data", "data: half a surrogate pair") from None
    flaw = surrogate_in(payload)
    if flaw is not None:
        raise Refused("bad_data", f"data{flaw}: half a surrogate pair")
    for check in (declared.always, declared.texts):
        flaw = None if check is None else check(payload)
        if flaw is not None:
            raise Refused("bad_data", f"data{flaw}: not what this field holds")
    return payload


def _detail(message: str) -> str:
    """The field of a validation error, and what was expected where that quotes no value."""
    match = _PATH.search(message)
    place = "data" + (match[1] if match else "")
    said = message[: match.start()] if match else message
    missing = _MISSING.match(said)
    if missing:
        return f"{place}.{missing[1]}: missing"
    return f"{place}: {said}" if _HARMLESS.match(said) else f"{place}: not what this field holds"


def catalog_key(event: CatalogEvent) -> bytes:
    """The Kafka key under which compaction keeps the last of each record of the catalogue."""
    if isinstance(event.data, RelationSet):
        return f"{event.subject}>{event.data.to}>{event.data.relation}".encode()
    return (event.subject + _CATALOG_SUFFIX.get(event.type, "")).encode()


def parse_catalog_key(key: bytes | None) -> Tombstone:
    """What a null value under `key` takes away; raises `Refused` for a key of no such form."""
    try:
        text = (key or b"").decode()
    except UnicodeDecodeError:
        text = ""
    sku, mark, what = text.partition("#")
    if mark and what in _CATALOG_MARKS and is_sku(sku):
        return Tombstone(what, sku)
    parts = text.split(">")
    if len(parts) == 3 and is_sku(parts[0]) and is_sku(parts[1]) and parts[2] in _RELATIONS:
        return Tombstone("relation", parts[0], parts[1], parts[2])
    if is_sku(text):
        return Tombstone("product", text)
    raise Refused("key_mismatch", "a null value under a key that the catalogue has not")
