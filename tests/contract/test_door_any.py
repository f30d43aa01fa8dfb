"""Whatever lies in a topic, the door says what is wrong with it, and raises nothing else."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.codec import Door, LineDoor
from streams.deadletters import VALUE_KEPT_BYTES, dead_letter
from streams.history import open_lines, read_lines
from streams.murmur2 import partition_of
from tests.contract.door_samples import AT_MS, CUSTOMER_TYPES, PARTITIONS, SUBJECT, encode, event
from tests.contract.test_door_paths import _mutated
from tests.integration.audit import REASONS
from triggers.errors import Refused
from triggers.events import CATALOG, EVENT_TYPES, TOPICS, CatalogEvent, Event, Tombstone

DOOR = Door(PARTITIONS)
LINES = LineDoor()

_NAMES = st.sampled_from(
    ["ce_id", "ce_source", "ce_type", "ce_time", "ce_subject", "ce_specversion", "content-type",
     "Content-Type", "ce_", "CE_ID", "", "\x00", "x" * 300]
)  # fmt: skip
_RAW_VALUES = st.one_of(
    st.none(),
    st.binary(max_size=40),
    st.sampled_from([b"1.0", b"application/cloudevents+json", b"application/json", SUBJECT.encode(),
                     b"shop", b"2024-05-01T12:34:56.789Z", b"\xff", *map(str.encode, EVENT_TYPES)]),
)  # fmt: skip
HEADERS = st.one_of(
    st.none(), st.just(()), st.lists(st.tuples(_NAMES, _RAW_VALUES), max_size=12).map(tuple)
)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
TIMES = st.one_of(st.just(AT_MS), INTEGERS)
KEYS = st.one_of(st.none(), st.just(SUBJECT.encode()), st.binary(max_size=300))
VALUES = st.one_of(st.none(), st.binary(max_size=300), _mutated().map(lambda found: found[1]))


def checked(refused: Refused) -> None:
    """A refusal is one of the contract's, says where, and can be a dead letter's headers."""
    assert refused.reason in REASONS
    assert 0 < len(refused.detail) <= 300
    dead_letter(refused.reason, refused.detail, "cart", 0, 0, b"", b"")


@given(st.sampled_from([*TOPICS, "odd"]), st.integers(0, PARTITIONS - 1), KEYS, VALUES, HEADERS,
       TIMES, TIMES)  # fmt: skip
@settings(max_examples=3_000, deadline=None)
@example("cart", 0, None, None, None, 0, 0)
@example("cart", 0, b"", b'{"a":' * 200_000, (), AT_MS, AT_MS)
@example("cart", 0, b"\xff", b"[" * 262_144, (("ce_id", None),), -1, 2**63 - 1)
@example("cart", 0, b"k", b"9" * 200_000, (("ce_type", b"cart.viewed"),), AT_MS, AT_MS)
def test_s20_the_door_answers_any_record_with_an_event_or_a_reason(
    topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Any,
    timestamp_ms: int, now_ms: int,
) -> None:  # fmt: skip
    try:
        found = DOOR.decode(topic, partition, key, value, headers, timestamp_ms, now_ms)
    except Refused as refused:
        checked(refused)
    else:
        assert isinstance(found, Event)
        assert found.subject.encode() == key
        assert partition_of(key, PARTITIONS) == partition


@given(KEYS, VALUES, HEADERS, TIMES)
@settings(max_examples=1_500, deadline=None)
def test_s20_the_catalogues_door_answers_any_record(
    key: bytes | None, value: bytes | None, headers: Any, timestamp_ms: int
) -> None:
    try:
        found = DOOR.decode_catalog(key, value, headers, timestamp_ms)
    except Refused as refused:
        checked(refused)
    else:
        assert isinstance(found, CatalogEvent | Tombstone)


@given(st.one_of(st.binary(max_size=300), _mutated().map(lambda found: found[1])))
@settings(max_examples=1_500, deadline=None)
@example(b"[" * 200_000)
@example(b'{"time":"x","type":"y","a":' + b"[" * 100_000)
@example(b'{"time":1,"type":"\\ud800"}')
def test_s20_any_line_of_a_file_has_an_event_or_a_reason(line: bytes) -> None:
    try:
        assert isinstance(LINES.decode(line), Event | CatalogEvent)
    except Refused as refused:
        checked(refused)


def test_s20_a_file_of_hostile_lines_is_read_to_its_end(tmp_path: Any) -> None:
    lines = [
        b'{"time":"x","type":"y","a":' + b"[" * 100_000,
        b"[" * 250_000,
        b"\xff\xfe\x00",
        b"\xef\xbb\xbf" + encode(event()),
        b"x" * 1_000_000,
        b"x" * 10_000_000,
        b'{"time":"9999-99-99T00:00:00Z","type":"cart.viewed"}',
        b'{"time":"0000-01-01T00:00:00Z","type":"cart.viewed"}',
        encode(event()),
    ]
    file = tmp_path / "log.jsonl"
    file.write_bytes(b"\n".join(lines) + b"\n")
    found = list(read_lines([file], {}, LINES.decode))
    assert len(found) == len(lines)
    assert all(isinstance(line.event, Refused) for line in found[:-1])
    assert isinstance(found[-1].event, Event)
    assert max(map(len, open_lines(file))) <= 300 * 1024


#: Values at the door's limits, each of a kind that costs some parser more than its length.
SLOW = {
    "open brackets": b"[" * 262_000,
    "open objects": b'{"a":' * 52_000,
    "closed brackets": b"[" * 131_000 + b"]" * 131_000,
    "digits": b"9" * 262_000,
    "digits in a field": encode(event()).replace(b"4980", b"9" * 200_000),
    "a number with an exponent": encode(event()).replace(b"4980", b"1e" + b"9" * 200_000),
    "decimals": encode(event()).replace(b"4980", b"0." + b"1" * 200_000),
    "quotes": b'"' + b'\\"' * 130_000,
    "escapes": b'"' + b"\\ud83d\\ude00" * 20_000 + b'"',
    "half pairs": encode(event()).replace(b"pens", b"\\ud800" * 30_000),
    "equal keys": b"{" + b'"a":1,' * 40_000 + b'"a":1}',
    "different keys": b"{" + b",".join(b'"k%d":1' % n for n in range(20_000)) + b"}",
    "lines of an order": encode(
        event("purchase.completed", data={
            "order_id": "o", "total": 1, "currency": "JPY",
            "items": [{"sku": "s", "quantity": 1, "unit_price": 1}] * 4_500,
        })
    ),
    "spaces": encode(event()) + b" " * 250_000,
    "a long time": encode(event(time="2024-05-01T12:34:56." + "1" * 200_000 + "Z")),
    "a zone of a hundred thousand": encode(event(time="2024-05-01T12:34:56Z" * 10_000)),
}  # fmt: skip


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("binary", [False, True])
def test_s20_no_value_holds_the_door_up(name: str, binary: bool) -> None:
    headers = [("ce_id", b"e"), ("ce_type", b"cart.viewed")] if binary else []
    begun = time.process_time()
    for topic in ("cart", "purchase"):
        try:
            DOOR.decode(topic, 0, b"k", SLOW[name], headers, AT_MS, AT_MS)
        except Refused as refused:
            checked(refused)
    assert time.process_time() - begun < 1.0


@pytest.mark.parametrize("size", [1_000_000, 10_000_000])
def test_s20_of_a_megabyte_or_ten_the_dead_letter_keeps_the_beginning_and_the_digest_of_all(
    size: int,
) -> None:
    import hashlib

    value = encode(event(note="x" * size))
    with pytest.raises(Refused, match="too_large") as found:
        DOOR.decode("cart", 0, SUBJECT.encode(), value, (), AT_MS, AT_MS)
    key, kept, headers = dead_letter(
        found.value.reason, found.value.detail, "cart", 0, 7, SUBJECT.encode(), value
    )
    assert (key, kept) == (SUBJECT.encode(), value[:VALUE_KEPT_BYTES])
    assert dict(headers)["sha256"] == hashlib.sha256(value).hexdigest().encode()
    assert b"xxx" not in dict(headers)["detail"]


def test_s20_of_duplicate_keys_the_last_counts_for_both_paths() -> None:
    text = encode(event())
    twice = text.replace(b'"type":', b'"type": "cart.exploded", "type":')
    found = DOOR.decode("cart", partition_of(SUBJECT.encode(), PARTITIONS), SUBJECT.encode(), twice,
                        (), AT_MS, AT_MS)  # fmt: skip
    assert found.type == "cart.item_added"
    assert json.loads(twice)["type"] == found.type


def test_s20_a_tombstone_is_no_event_of_a_customer_and_takes_a_product_away() -> None:
    for topic in TOPICS:
        with pytest.raises(Refused, match="not_json"):
            DOOR.decode(topic, 0, SUBJECT.encode(), None, None, AT_MS, AT_MS)
    assert DOOR.decode_catalog(b"sku-1", None, None, AT_MS) == Tombstone("product", "sku-1")


@pytest.mark.parametrize("kind", CUSTOMER_TYPES)
def test_s20_an_unknown_version_of_the_envelope_or_of_a_type_is_refused(kind: str) -> None:
    topic = EVENT_TYPES[kind].topic
    assert topic != CATALOG
    unknown: list[tuple[str, dict[str, Any]]] = [
        ("bad_envelope", {"specversion": "2.0"}),
        ("unknown_type", {"type": f"{kind}.v2"}),
    ]
    for reason, changes in unknown:
        value = encode(event(kind, **changes))
        with pytest.raises(Refused, match=reason):
            DOOR.decode(topic, 0, SUBJECT.encode(), value, (), AT_MS, AT_MS)
