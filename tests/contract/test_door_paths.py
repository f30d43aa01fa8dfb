"""The door's other entrances: binary mode, the catalogue, files; and its two paths agree."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.codec import Door, LineDoor
from streams.deadletters import dead_letter, dead_letter_line
from streams.murmur2 import partition_of
from streams.refusals import Slow
from tests.contract.door_samples import (
    AT_MS,
    CUSTOMER_TYPES,
    DATA,
    DOOR,
    PARTITIONS,
    SUBJECT,
    encode,
    event,
    reason_of,
    receive,
)
from triggers.errors import Refused
from triggers.events import EVENT_TYPES, CatalogEvent, Event, EventType, Tombstone
from triggers.fields import Id

# --- the two paths ---

_FAST = DOOR._fast
_SLOW = Slow(EVENT_TYPES)

_STRINGS = st.sampled_from([
    "", "x", "a>b", "#", "é" * 128, "é" * 129, "x" * 256, "x" * 257, "\ud800", "\udfff\ud800", "😀",
    "\x00", "JPY", "ＪPY", "price", "Asia/Tokyo", "2024-05-01T12:34:56Z", "2024-05-01T12:34:60Z",
    "1999-12-31T23:59:59Z", "9999-12-31T23:59:59.999999-23:59", "0000-01-01T00:00:00Z", "[{[{",
])  # fmt: skip
_NUMBERS = st.sampled_from([
    "0", "1", "-1", "5", "6", "0.5", "1.0", "5e0", "-0", "-0.0", "9007199254740991", "1e999",
    "9007199254740992", "-9007199254740992", "9007199254740994.0", "1e300", "18446744073709551616",
    "1e400", "NaN", "Infinity", "01", "1.", "5" * 400, "0.1e-400",
])  # fmt: skip
_RAW = st.one_of(
    _NUMBERS,
    _STRINGS.map(json.dumps),
    _STRINGS.map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.sampled_from(
        ["null", "true", "[]", "{}", '["a","b"]', '{"a":1}', '{"a":2e999}', "[1,", "tru"]
    ),
    st.integers(1, 40).map(lambda depth: "[" * depth + "]" * depth),
)


def _members(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for name, one in value.items():
            found += _members(one, (*path, name))
    elif isinstance(value, list):
        for index, one in enumerate(value):
            found += _members(one, (*path, index))
    return found


@st.composite
def _mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """A topic and a value: a valid event of any type with a few changes, as text and as bytes."""
    kind = draw(st.sampled_from(sorted(EVENT_TYPES)))
    envelope = event(kind)
    replaced = {}
    for number in range(draw(st.integers(0, 3))):
        paths = _members(envelope)
        if not paths:
            break
        path = draw(st.sampled_from(paths))
        parent: Any = envelope
        for step in path[:-1]:
            parent = parent[step]
        change = draw(st.sampled_from(["replace", "replace", "drop", "add"]))
        if change == "replace":
            parent[path[-1]] = f"@{number}@"
            replaced[f'"@{number}@"'] = draw(_RAW)
        elif change == "drop":
            del parent[path[-1]]
        elif isinstance(parent, dict):
            name = draw(st.sampled_from(["extra", "id", "sku", "data", "a\u3042"]))
            parent[f"{name}"] = f"@{number}@"
            replaced[f'"@{number}@"'] = draw(_RAW)
    text = json.dumps(envelope, ensure_ascii=draw(st.booleans()))
    for mark, raw in replaced.items():
        text = text.replace(mark, raw)
    if draw(st.integers(0, 3)) == 0:
        path = draw(st.sampled_from(["id", "type", "time", "data", "subject", "sku", "currency"]))
        text = text.replace(f'"{path}":', f'"{path}":{draw(_RAW)},"{path}":', 1)
    value = text.encode("utf-8", "surrogatepass")
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(value)))
        piece = draw(st.sampled_from([b"", b" ", b'"', b"\\", b"{", b"]", b",", b"\xff", b"\x01"]))
        value = value[:at] + piece + value[at + draw(st.integers(0, 1)) :]
    topic = EVENT_TYPES[kind].topic if draw(st.integers(0, 9)) else "cart"
    return topic, value


def _told(event: Event | None) -> bytes:
    """As bytes, in which 1, 1.0 and true differ."""
    return msgspec.json.encode(None if event is None else event.fields())


@given(_mutated())
@settings(max_examples=1500, deadline=None)
def test_the_hot_path_takes_nothing_that_the_second_look_refuses(
    sample: tuple[str, bytes],
) -> None:
    topic, value = sample
    fast = _FAST.event(topic, value)
    slow: Event | None = None
    with suppress(Refused):
        slow = _SLOW.event(topic, value, None)
    # The hot path may leave a good event to the second look, never the other way round.
    assert fast is None or fast == slow
    assert fast is None or _told(fast) == _told(slow)


@pytest.mark.parametrize("kind", sorted(EVENT_TYPES))
def test_the_hot_path_itself_takes_every_type(kind: str) -> None:
    plain = _FAST.event(EVENT_TYPES[kind].topic, encode(event(kind)))
    wide = _FAST.event(EVENT_TYPES[kind].topic, msgspec.json.encode(event(kind)))
    assert plain == wide == _SLOW.event(EVENT_TYPES[kind].topic, encode(event(kind)), None)


_BARE = '"specversion":"1.0","id":"1","source":"s","time":"2024-05-01T12:34:56Z","subject":"c"'
_VIEWED = '"type":"cart.viewed","data":{"cart_id":"k","subtotal":1,"currency":"USD"}'
_EMPTY_OBJECTS = ",".join(["{}"] * 100)


@pytest.mark.parametrize(
    "members",
    [
        f'{_BARE},"type":"consent.granted",{_VIEWED}',
        f'{_BARE},{_VIEWED},"type":"consent.granted"',
        f'{_BARE},{_VIEWED},"type":"cart.viewed","id":"2"',
        f'{_BARE},"data":[],{_VIEWED}',
        f'{_BARE},{_VIEWED},"data":{{"cart_id":"z","subtotal":2,"currency":"EUR"}}',
        f'{_BARE},"type":5,{_VIEWED}',
        f'{_VIEWED},{_BARE},"list":[{_EMPTY_OBJECTS}]',
        f'{_VIEWED},{_BARE},"text":"{"},{" * 100}"',
        f'{_VIEWED},{_BARE},"text":"{"},{" * 100}","deep":{"[" * 40}{"]" * 40}',
        f'{_VIEWED},{_BARE},"deep":{"[" * 40}{_EMPTY_OBJECTS}{"]" * 40}',
    ],
)
def test_the_paths_agree_where_members_come_twice_and_where_brackets_are_many(members: str) -> None:
    value = f"{{{members}}}".encode()
    fast = _FAST.event("cart", value)
    slow: Event | None = None
    with suppress(Refused):
        slow = _SLOW.event("cart", value, None)
    assert fast is None or fast == slow


def test_the_hot_path_itself_takes_a_long_list_and_no_deep_nesting() -> None:
    many, deep = f'"list":[{_EMPTY_OBJECTS}]', f'"deep":{"[" * 40}{_EMPTY_OBJECTS}{"]" * 40}'
    assert _FAST.event("cart", f"{{{_BARE},{_VIEWED},{many}}}".encode()) is not None
    assert _FAST.event("cart", f"{{{_BARE},{_VIEWED},{deep}}}".encode()) is None


@given(st.binary(max_size=200))
def test_any_bytes_have_a_reason(value: bytes) -> None:
    assert reason_of(value) in ("not_json", "bad_envelope", "too_deep")


# --- binary mode ---


def _headers(**changes: Any) -> list[tuple[str, Any]]:
    found = {f"ce_{name}": one.encode() for name, one in event().items() if name != "data"}
    found |= {"content-type": b"application/json"}
    return [(name, one) for name, one in {**found, **changes}.items() if one is not False]


def test_binary_mode_makes_the_same_event() -> None:
    body = encode(DATA["cart.item_added"])
    assert receive(body, headers=_headers()) == receive(encode(event()))
    assert receive(body, headers=_headers(**{"content-type": False})) == receive(encode(event()))
    assert receive(body, headers=tuple(_headers(ce_x=None, trace=b"\xff"))) is not None


def test_a_structured_content_type_or_foreign_headers_leave_the_value_an_envelope() -> None:
    structured = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
    for headers in (structured, [*_headers(), *structured], [("traceparent", b"00-1")], [], None):
        assert reason_of(encode(event()), headers=headers) == "accepted"


def test_binary_mode_is_refused_for_the_same_reasons() -> None:
    body = encode(DATA["cart.item_added"])
    for name in ("specversion", "id", "source", "type", "time", "subject"):
        for wrong in (False, None, b"\xff", b"\xed\xa0\x80"):
            assert reason_of(body, headers=_headers(**{f"ce_{name}": wrong})) == "bad_envelope"
    for name in ("id", "source", "subject", "time"):
        assert reason_of(body, headers=_headers(**{f"ce_{name}": b""})) == "bad_envelope"
    assert reason_of(body, headers=_headers(ce_type=b"x.y")) == "unknown_type"
    assert reason_of(body, headers=_headers(ce_time=b"9999-01-01T00:00:00Z")) == "time_out_of_range"
    assert reason_of(body, headers=_headers(ce_subject=b"other")) == "key_mismatch"
    assert reason_of(b"{}", headers=_headers()) == "bad_data"
    assert reason_of(b"[]", headers=_headers()) == "bad_envelope"
    for broken in (None, b"", b"{", b"\xff", b"NaN"):
        assert reason_of(broken, headers=_headers()) == "not_json"
    assert reason_of(b" " * 262_145, headers=_headers()) == "too_large"


def test_in_binary_mode_the_envelope_counts_as_a_level() -> None:
    def body(levels: int) -> bytes:
        deep: Any = 1
        for _ in range(levels - 2):
            deep = [deep]
        return encode({**DATA["cart.item_added"], "extra": deep})

    assert reason_of(body(32), headers=_headers()) == "accepted"
    assert reason_of(body(33), headers=_headers()) == "too_deep"


# --- the catalogue ---


def _catalog(key: bytes | None, kind: str, /, subject: str = "a", **changes: Any) -> Any:
    value = encode(event(kind, subject=subject, **changes))
    return DOOR.decode_catalog(key, value, (), AT_MS)


CATALOG_KEYS = {
    "catalog.product_set": b"a",
    "catalog.removed": b"a",
    "catalog.stock_set": b"a#stock",
    "catalog.bundle_set": b"a#bundle",
    "catalog.relation_set": b"a>b>complement",
}


@pytest.mark.parametrize("kind", list(CATALOG_KEYS))
def test_each_catalogue_record_has_its_own_key(kind: str) -> None:
    found = _catalog(CATALOG_KEYS[kind], kind)
    assert isinstance(found, CatalogEvent)
    assert (found.type, found.subject) == (kind, "a")
    for key in {None, b"", b"b", b"a>b", b"a#", *CATALOG_KEYS.values()} - {CATALOG_KEYS[kind]}:
        with pytest.raises(Refused, match="key_mismatch"):
            _catalog(key, kind)


@pytest.mark.parametrize(
    ("key", "gone"),
    [
        (b"a", Tombstone("product", "a")),
        (b"a#stock", Tombstone("stock", "a")),
        (b"a#bundle", Tombstone("bundle", "a")),
        (b"a>b>complement", Tombstone("relation", "a", "b", "complement")),
        ("赤 ペン>b>replenishes".encode(), Tombstone("relation", "赤 ペン", "b", "replenishes")),
    ],
)
def test_a_null_value_takes_away_what_its_key_had_set(key: bytes, gone: Tombstone) -> None:
    assert DOOR.decode_catalog(key, None, (), AT_MS) == gone


@pytest.mark.parametrize(
    "key",
    [None, b"", b"\xff", b"a#", b"a#price", b"#stock", b"a>b", b"a>b>likes", b">b>complement",
     b"a>>complement", b"a#stock#stock", b"a>b>complement>", b"x" * 257],
)  # fmt: skip
def test_a_null_value_under_a_strange_key_is_refused(key: bytes | None) -> None:
    with pytest.raises(Refused, match="key_mismatch"):
        DOOR.decode_catalog(key, None, (), AT_MS)


@pytest.mark.parametrize(
    ("reason", "kind", "changes"),
    [
        ("unknown_type", "cart.viewed", {}),
        ("bad_envelope", "catalog.removed", {"subject": "a>b"}),
        ("bad_envelope", "catalog.removed", {"subject": "a#b"}),
        ("bad_data", "catalog.stock_set", {"data": {"stock": 2**53}}),
        ("bad_data", "catalog.stock_set", {"data": {"stock": "many"}}),
        ("bad_data", "catalog.relation_set",
         {"data": {"to": "b>c", "relation": "complement", "weight": 1}}),
        ("bad_data", "catalog.relation_set",
         {"data": {"to": "b", "relation": "likes", "weight": 1}}),
        ("bad_data", "catalog.relation_set",
         {"data": {"to": "b", "relation": "complement", "weight": 1.01}}),
        ("bad_data", "catalog.product_set",
         {"data": {"name": "Pen", "price": -1, "currency": "JPY"}}),
        ("bad_data", "catalog.product_set",
         {"data": {"name": "Pen", "price": 1, "currency": "JPY", "margin": 2}}),
        ("time_out_of_range", "catalog.removed", {"time": "2024-05-03T00:00:00Z"}),
    ],
)  # fmt: skip
def test_the_catalogue_is_refused_for_the_same_reasons(
    reason: str, kind: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(Refused) as caught:
        _catalog(b"a", kind, **changes)
    assert caught.value.reason == reason


# --- files, custom types, dead letters ---


@pytest.mark.parametrize("kind", sorted(EVENT_TYPES))
def test_a_line_of_a_file_needs_no_record_around_it(kind: str) -> None:
    found = LineDoor().decode(encode(event(kind)))
    assert isinstance(found, CatalogEvent if kind.startswith("catalog.") else Event)
    assert found.time_ms == AT_MS


def test_a_line_is_refused_for_the_same_reasons() -> None:
    for value, reason in [
        (b"{", "not_json"),
        (b"null", "bad_envelope"),
        (encode(event(type="x.y")), "unknown_type"),
        (encode(event(data={})), "bad_data"),
        (encode(event("catalog.removed", subject="a#b")), "bad_envelope"),
        (encode(event(time="1999-01-01T00:00:00Z")), "time_out_of_range"),
    ]:
        with pytest.raises(Refused) as caught:
            LineDoor().decode(value)
        assert caught.value.reason == reason


class Booked(msgspec.Struct):
    seat_id: Id
    guests: int
    price: float | None = None


def test_a_type_that_the_rule_book_declares_comes_in_by_its_fields() -> None:
    custom = {"seat.booked": EventType("seat.booked", "usage", Booked, "seat_id")}
    door = Door(PARTITIONS, custom)
    place = partition_of(SUBJECT.encode(), PARTITIONS)

    def reason(topic: str = "usage", **data: Any) -> str:
        value = encode({**event(type="seat.booked"), "data": {"seat_id": "s", "guests": 1, **data}})
        try:
            door.decode(topic, place, SUBJECT.encode(), value, (), AT_MS, AT_MS)
        except Refused as refused:
            return refused.reason
        return "accepted"

    assert reason() == "accepted"
    assert reason(guests=-5, price=1e300) == "accepted"
    assert reason("cart") == "unknown_type"
    assert reason(guests=2**53) == "bad_data"
    assert reason(price=2**53) == "bad_data"
    assert reason(seat_id="é" * 129) == "bad_data"
    assert reason_of(encode({**event(type="seat.booked")}), topic="usage") == "unknown_type"


def test_a_rule_book_cannot_redeclare_a_type_of_the_contract() -> None:
    custom = {"cart.viewed": EventType("cart.viewed", "usage", Booked, "seat_id")}
    assert LineDoor(custom).decode(encode(event("cart.viewed"))).type == "cart.viewed"


def test_a_dead_letter_has_the_bytes_as_they_came_and_tells_where_from() -> None:
    value = b"\xff" * 70_000
    key, kept, headers = dead_letter("not_json", "no UTF-8 at byte 0", "cart", 3, 17, b"k", value)
    assert (key, kept) == (b"k", value[:65536])
    assert dict(headers) == {
        "reason": b"not_json",
        "detail": b"no UTF-8 at byte 0",
        "topic": b"cart",
        "partition": b"3",
        "offset": b"17",
        "sha256": hashlib.sha256(value).hexdigest().encode(),
    }
    assert dead_letter("not_json", "the value is null", "cart", 0, 0, None, None)[:2] == (None, b"")


def test_a_dead_letter_of_a_backtest_is_a_line_of_json() -> None:
    line = dead_letter_line("not_json", "broken", "cart.jsonl", 5, b'\xff{"a":\n"\xe8\xb5\xa4"}')
    assert b"\n" not in line
    assert json.loads(line) == {
        "reason": "not_json",
        "detail": "broken",
        "file": "cart.jsonl",
        "line": 5,
        "value": '\ufffd{"a":\n"赤"}',
    }


def test_every_type_is_tested() -> None:
    assert set(DATA) == set(EVENT_TYPES)
    assert len(CUSTOMER_TYPES) == 35
