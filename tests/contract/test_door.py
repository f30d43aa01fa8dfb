"""Each reason of the contract, with hostile inputs, and what is hostile only at first sight."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from streams.murmur2 import partition_of
from tests.contract.door_samples import (
    AT_MS,
    CUSTOMER_TYPES,
    DATA,
    ITEM,
    SUBJECT,
    TIME,
    encode,
    event,
    reason_of,
    receive,
)
from triggers.errors import Refused
from triggers.events import EVENT_TYPES, INT_MAX, CartItemAdded, UsageRecorded

LONE = "\ud800"


def nested(levels: int) -> Any:
    value: Any = 1
    for number in range(levels):
        value = [value] if number % 2 else {"a": value}
    return value


def with_data(kind: str = "cart.item_added", **changes: Any) -> bytes:
    return encode(event(kind, data={**DATA[kind], **changes}))


def with_item(**changes: Any) -> bytes:
    return with_data(item={**ITEM, **changes})


def on(kind: str) -> dict[str, Any]:
    return {"topic": EVENT_TYPES[kind].topic}


@pytest.mark.parametrize("kind", CUSTOMER_TYPES)
def test_every_type_of_the_contract_comes_in_with_all_its_fields(kind: str) -> None:
    found = receive(encode(event(kind)), **on(kind))
    assert (found.type, found.subject, found.source, found.id) == (kind, SUBJECT, "shop", "e-1")
    assert found.time_ms == AT_MS
    assert msgspec.to_builtins(found.data) == {
        **dict.fromkeys(found.data.__struct_fields__),
        **DATA[kind],
    }


@pytest.mark.parametrize("kind", CUSTOMER_TYPES)
def test_optional_fields_may_be_absent_or_null_and_required_ones_may_not(kind: str) -> None:
    for field in msgspec.structs.fields(EVENT_TYPES[kind].data):
        rest = {name: one for name, one in DATA[kind].items() if name != field.name}
        wanted = "bad_data" if field.required else "accepted"
        assert reason_of(encode(event(kind, data=rest)), **on(kind)) == wanted
        assert reason_of(with_data(kind, **{field.name: None}), **on(kind)) == wanted


@pytest.mark.parametrize("kind", CUSTOMER_TYPES)
@pytest.mark.parametrize("wrong", ["x\x00" * 300, -1, 10**18, 0.5, True, [], {}, [[]], ["", 5]])
def test_a_wrong_type_in_any_field_never_becomes_another_reason(kind: str, wrong: Any) -> None:
    for name in DATA[kind]:
        if type(wrong) is not type(DATA[kind][name]):
            assert reason_of(with_data(kind, **{name: wrong}), **on(kind)) in (
                ("bad_data", "accepted") if isinstance(DATA[kind][name], int | float) else
                ("bad_data",)
            )  # fmt: skip


VALID = encode(event())


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b" ",
        b"{",
        b"nul",
        VALID[:-1],
        VALID + b"x",
        VALID + VALID,
        b"\xef\xbb\xbf" + VALID,
        VALID.decode().encode("utf-16"),
        VALID.decode().encode("utf-16-le"),
        VALID.decode().encode("utf-32"),
        b"\x1f\x8b\x08" + VALID,
        b"NaN",
        VALID.replace(b"4980", b"NaN"),
        VALID.replace(b"4980", b"Infinity"),
        VALID.replace(b"4980", b"-Infinity"),
        VALID.replace(b"4980", b"04980"),
        VALID.replace(b"4980", b"0x10"),
        VALID.replace(b"4980", b"4980."),
        VALID.replace(b"pens", b"p\xffns"),
        VALID.replace(b"pens", b"p\xed\xa0\x80ns"),
        VALID.replace(b"pens", b"p\nns"),
        VALID.replace(b"pens", b"p\\qns"),
        VALID.replace(b'"pens"', b"'pens'"),
        VALID.replace(b'{"sp', b'{"unknown": "\xff", "sp'),
        VALID.replace(b'{"sp', b'{"unknown": NaN, "sp'),
        VALID.replace(b'{"sp', b'{"unknown": [1,], "sp'),
        VALID.replace(b'{"sp', b'{"unknown": {"a" 1}, "sp'),
        VALID.replace(b'{"sp', b'{"unk\xffnown": 1, "sp'),
        VALID.replace(b'{"sp', b'/* hello */ {"sp'),
        b"[" * 100_000,
        b'{"a":' * 50_000,
    ],
)  # fmt: skip
def test_what_is_no_json_in_utf_8_is_not_json(value: bytes | None) -> None:
    assert reason_of(value) == "not_json"


def test_256_kib_come_in_and_one_byte_more_is_too_large() -> None:
    room = 256 * 1024 - len(VALID)
    assert reason_of(VALID + b" " * room) == "accepted"
    assert reason_of(VALID + b" " * (room + 1)) == "too_large"
    for size in (1_000_000, 10_000_000):
        assert reason_of(b"{" * size) == "too_large"
        assert reason_of(b"\xff" * size) == "too_large"


@pytest.mark.parametrize("place", ["envelope", "data", "item"])
def test_32_levels_come_in_and_33_are_too_deep(place: str) -> None:
    at = {"envelope": 1, "data": 2, "item": 3}[place]

    def holding(levels: int) -> bytes:
        deep = {"unknown": nested(levels - at)}
        if place == "envelope":
            return encode(event(**deep))
        return with_data(**deep) if place == "data" else with_item(**deep)

    assert reason_of(holding(32)) == "accepted"
    assert reason_of(holding(33)) == "too_deep"


def test_100_000_levels_are_too_deep() -> None:
    assert reason_of(b"[" * 100_000 + b"]" * 100_000) == "too_deep"
    deep = b"[" * 90_000 + b"]" * 90_000
    assert reason_of(VALID.replace(b'{"sp', b'{"unknown": ' + deep + b', "sp')) == "too_deep"


def test_brackets_in_strings_and_side_by_side_are_no_levels() -> None:
    assert reason_of(with_item(category="{[" * 100)) == "accepted"
    assert reason_of(with_item(category='"\\{[' * 40)) == "accepted"
    assert reason_of(with_data(unknown=[[] for _ in range(100)])) == "accepted"
    order = with_data("purchase.completed", items=[ITEM] * 500)
    assert reason_of(order, topic="purchase") == "accepted"


@pytest.mark.parametrize("value", [b"null", b"[]", b'"x"', b"5", b"true", b"[" + VALID + b"]"])
def test_what_is_no_object_is_a_bad_envelope(value: bytes) -> None:
    assert reason_of(value) == "bad_envelope"


@pytest.mark.parametrize("name", list(event()))
def test_an_envelope_field_that_is_missing_or_of_a_wrong_type_is_a_bad_envelope(name: str) -> None:
    lacking = {key: one for key, one in event().items() if key != name}
    assert reason_of(encode(lacking)) == "bad_envelope"
    for wrong in (None, 5, 1.5, True, [], ["x"], "" if name == "data" else {}):
        assert reason_of(encode(event(**{name: wrong}))) == "bad_envelope"


def test_another_specversion_is_a_bad_envelope() -> None:
    for version in ("0.3", "1", "1.0 ", "2.0", ""):
        assert reason_of(encode(event(specversion=version))) == "bad_envelope"


@pytest.mark.parametrize("name", ["id", "source", "subject"])
def test_ids_have_1_to_256_bytes(name: str) -> None:
    for text, reason in [
        ("", "bad_envelope"),
        ("x" * 256, "accepted"),
        ("x" * 257, "bad_envelope"),
        ("あ" * 85, "accepted"),
        ("あ" * 86, "bad_envelope"),
        ("😀" * 64, "accepted"),
        ("😀" * 65, "bad_envelope"),
        (LONE, "bad_envelope"),
        ("a" + "\udc00" + "b", "bad_envelope"),
        ("x" * 10_000, "bad_envelope"),
    ]:
        key = (text if name == "subject" else SUBJECT).encode("utf-8", "surrogatepass")
        assert reason_of(encode(event(**{name: text})), key=key) == reason
        if LONE not in text and "\udc00" not in text:
            raw = encode(event(**{name: "@@"})).replace(b"@@", text.encode())
            assert reason_of(raw, key=key) == reason


@pytest.mark.parametrize("time", [
    "", "yesterday", "2024-05-01", "2024-05-01T12:34:56", "2024-05-01 12:34:56Z", "1714566896789",
    "2024-02-30T00:00:00Z", "10000-01-01T00:00:00Z", "-2024-05-01T12:34:56Z",
    "2024-05-01T24:00:00Z", "2024-05-01T12:34:56+0900", LONE,
])  # fmt: skip
def test_a_time_that_is_not_rfc_3339_with_an_offset_is_a_bad_envelope(time: str) -> None:
    assert reason_of(encode(event(time=time))) == "bad_envelope"


def test_a_type_that_nobody_declares_is_unknown() -> None:
    for kind in ("", "cart", "cart.item_added ", "CART.ITEM_ADDED", "x" * 5000, LONE, "\x00"):
        assert reason_of(encode(event(type=kind))) == "unknown_type"


def test_a_known_type_on_another_topic_is_unknown() -> None:
    for kind in CUSTOMER_TYPES:
        for topic in ("cart", "checkout", "purchase", "usage", "customer", "feedback", "catalog"):
            wanted = "accepted" if topic == EVENT_TYPES[kind].topic else "unknown_type"
            assert reason_of(encode(event(kind)), topic=topic) == wanted
    assert reason_of(encode(event("catalog.stock_set"))) == "unknown_type"


@pytest.mark.parametrize(
    "value",
    [
        with_data(cart_id=""),
        with_data(cart_id="x" * 257),
        with_data(cart_id="あ" * 86),
        with_data(cart_id=LONE),
        with_data(session_id=""),
        with_item(sku=""),
        with_item(sku="a>b"),
        with_item(sku="a#b"),
        encode(event()).replace(b"sku-1", b"a\\u003eb"),
        encode(event()).replace(b"sku-1", b"a\\u0023b"),
        with_item(sku="あ" * 86),
        with_item(category=LONE),
        with_item(category="x" * 257),
        with_item(quantity=0),
        with_item(quantity=-1),
        with_item(quantity=1.0),
        with_item(quantity="1"),
        with_item(quantity=2**53),
        with_item(quantity=True),
        with_item(unit_price=-1),
        with_item(unit_price=2**53),
        with_item(unit_price=2**64),
        with_item(unit_price=10**400),
        with_item(unit_price="19,99"),
        with_item(unit_price=19.99),
        with_item(unit_price=1e308),
        encode(event()).replace(b"4980", b"1e999"),
        encode(event()).replace(b"4980", b"9" * 5000),
        encode(event()).replace(b"4980", b"-0.0"),
        with_data(subtotal=-1),
        with_data(subtotal=None),
        with_data(currency="yen"),
        with_data(currency="JPYX"),
        with_data(currency="JP"),
        with_data(currency="ＪＰＹ"),
        with_data(currency="J\u0050\u0130"),
        with_data(item=[ITEM]),
        with_data(item=None),
    ],
)
def test_a_payload_out_of_its_limits_is_bad_data(value: bytes) -> None:
    assert reason_of(value) == "bad_data"


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("usage.recorded", {"value": 2**53}),
        ("usage.recorded", {"value": -(2**53)}),
        ("usage.recorded", {"value": "8"}),
        ("usage.recorded", {"value": None}),
        ("usage.recorded", {"metric": ""}),
        ("usage.recorded", {"quota": 10**400}),
        ("support.resolved", {"csat": 0}),
        ("support.resolved", {"csat": 6}),
        ("product.reviewed", {"stars": 0}),
        ("product.reviewed", {"stars": 6}),
        ("product.reviewed", {"bought_with": ["a", "b>c"]}),
        ("purchase.completed", {"offer_ids": ["f", ""]}),
        ("purchase.completed", {"items": [ITEM, {**ITEM, "sku": "a#b"}]}),
        ("purchase.completed", {"items": [ITEM, {**ITEM, "quantity": 0}]}),
        ("purchase.completed", {"items": {}}),
        ("purchase.completed", {"coupon_total": -1}),
        ("checkout.plan_left", {"reason": "weather"}),
        ("checkout.plan_left", {"price": -1}),
        ("checkout.plan_left", {"plan": "a>b"}),
        ("offer.declined", {"reason": "Taro said so"}),
        ("contract.started", {"renews_at": "2025-05-01"}),
        ("contract.started", {"renews_at": "2025-05-01T00:00:00"}),
        ("contract.started", {"renews_at": 1714566896789}),
        ("contract.started", {"renews_at": "9999-12-31T23:59:59Z"}),
        ("contract.started", {"renews_at": "0001-01-01T00:00:00Z"}),
        ("contract.started", {"renews_at": "2025-02-30T00:00:00Z"}),
        ("assessment.completed", {"exam_at": "tomorrow"}),
        ("customer.profile_set", {"timezone": "Asia/Atlantis"}),
        ("customer.profile_set", {"timezone": "../../etc/passwd"}),
        ("customer.profile_set", {"timezone": "+09:00"}),
        ("customer.profile_set", {"attributes": {"a": [1]}}),
        ("customer.profile_set", {"attributes": {"a": {"b": 1}}}),
        ("customer.profile_set", {"attributes": {"a": None}}),
        ("customer.profile_set", {"attributes": {"": 1}}),
        ("customer.profile_set", {"attributes": {"a": 2**53}}),
        ("customer.profile_set", {"attributes": {"a": LONE}}),
        ("customer.profile_set", {"attributes": {LONE: 1}}),
        ("customer.profile_set", {"attributes": []}),
        ("consent.granted", {"channel": ""}),
        ("consent.granted", {"proof": LONE}),
    ],
)
def test_limits_of_the_other_types_hold_too(kind: str, changes: dict[str, Any]) -> None:
    assert reason_of(with_data(kind, **changes), **on(kind)) == "bad_data"


def test_numbers_at_their_limits_come_in() -> None:
    assert reason_of(with_item(quantity=INT_MAX, unit_price=INT_MAX)) == "accepted"
    assert reason_of(with_item(quantity=1, unit_price=0)) == "accepted"
    assert reason_of(encode(event()).replace(b"4980", b"-0")) == "accepted"
    for value in (INT_MAX, -INT_MAX, 1e300, -1e300, 9007199254740994.0, 0.1):
        found = receive(with_data("usage.recorded", value=value), topic="usage")
        assert isinstance(found.data, UsageRecorded)
        assert found.data.value == float(value)
        assert type(found.data.value) is float


@pytest.mark.parametrize(
    "time",
    ["1999-12-31T23:59:59.999Z", "0001-01-01T00:00:00Z", "0000-01-01T00:00:00Z",
     "2000-01-01T00:00:00+00:01", "2100-01-01T00:00:00.001Z", "2100-06-01T00:00:00Z",
     "9999-12-31T23:59:59Z", "1970-01-01T00:00:00Z"],
)  # fmt: skip
def test_a_time_before_2000_or_after_2100_is_out_of_range(time: str) -> None:
    assert reason_of(encode(event(time=time))) == "time_out_of_range"


def test_a_time_up_to_24_h_after_the_record_comes_in() -> None:
    day_ms = 86_400_000
    assert reason_of(VALID, timestamp_ms=AT_MS - day_ms) == "accepted"
    assert reason_of(VALID, timestamp_ms=AT_MS - day_ms - 1) == "time_out_of_range"
    later = AT_MS + 20 * 365 * day_ms
    assert reason_of(VALID, timestamp_ms=later, now_ms=later) == "accepted", "late is no fault"


def test_a_record_up_to_60_s_ahead_of_the_clock_comes_in() -> None:
    assert reason_of(VALID, timestamp_ms=AT_MS + 60_000) == "accepted"
    assert reason_of(VALID, timestamp_ms=AT_MS + 60_001) == "time_out_of_range"
    assert reason_of(VALID, timestamp_ms=-1) == "time_out_of_range"


@pytest.mark.parametrize("key", [None, b"", b"customer-2", b"customer-1 ", b"\xff", b"Customer-1"])
def test_a_key_that_is_not_the_subject_is_a_mismatch(key: bytes | None) -> None:
    assert reason_of(VALID, key=key) == "key_mismatch"
    assert reason_of(VALID, key=key, partition=7) == "key_mismatch"


def test_ids_that_only_look_alike_are_different_keys() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert reason_of(encode(event(subject=composed)), key=decomposed.encode()) == "key_mismatch"
    assert reason_of(encode(event(subject=composed)), key=composed.encode()) == "accepted"


def test_a_record_on_another_partition_than_its_key_says_is_refused() -> None:
    right = partition_of(SUBJECT.encode(), 8)
    for partition in range(8):
        wanted = "accepted" if partition == right else "wrong_partition"
        assert reason_of(VALID, partition=partition) == wanted


FAULTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("bad_envelope", {"id": ""}, {}),
    ("unknown_type", {"type": "x.y"}, {}),
    ("bad_data", {"data": {}}, {}),
    ("time_out_of_range", {"time": "9999-01-01T00:00:00Z"}, {}),
    ("key_mismatch", {}, {"key": b"other"}),
    ("wrong_partition", {}, {"partition": 9}),
]


@pytest.mark.parametrize("first", range(len(FAULTS)))
def test_of_several_faults_the_first_in_the_contracts_order_is_the_reason(first: int) -> None:
    envelope: dict[str, Any] = event()
    record: dict[str, Any] = {}
    for _, changes, around in FAULTS[first:]:
        envelope.update(changes)
        record.update(around)
    assert reason_of(encode(envelope), **record) == FAULTS[first][0]


def test_size_comes_before_syntax_and_syntax_before_depth_and_depth_before_the_envelope() -> None:
    deep = encode(event(id="", unknown=nested(40)))
    assert reason_of(deep) == "too_deep"
    assert reason_of(encode(nested(40))) == "too_deep"
    assert reason_of(deep + b"]") == "not_json"
    assert reason_of(deep[:-1]) == "not_json"
    assert reason_of(deep[:-1] + b" " * 262_144) == "too_large"


def test_of_equal_keys_the_last_counts() -> None:
    def doubled(first: str, name: str) -> bytes:
        return VALID.replace(f'"{name}":'.encode(), f'"{name}": {first}, "{name}":'.encode(), 1)

    for name in event():
        for first in ("5", '""', "null", '"9999-01-01T00:00:00Z"', "{}", "[[]]"):
            assert receive(doubled(first, name)) == receive(VALID)
    for name in ("cart_id", "item", "quantity", "currency", "sku", "category"):
        for first in ("-5", '"a>b"', "null", "{}", "2e999"):
            assert receive(doubled(first, name)) == receive(VALID)
    assert reason_of(VALID[:-1] + b', "id": ""}') == "bad_envelope"
    assert reason_of(VALID[:-1] + b', "type": "x.y"}') == "unknown_type"
    assert reason_of(VALID[:-1] + b', "data": {}}') == "bad_data"
    found = receive(VALID[:-1] + b', "id": "the last"}')
    assert found.id == "the last"


def test_escapes_and_white_space_change_nothing() -> None:
    plain = receive(VALID)
    for value in (
        VALID.replace(b"cart.item_added", b"cart\\u002eitem_added"),
        VALID.replace(b'"type"', b'"\\u0074ype"'),
        VALID.replace(b'"data"', b'"\\u0064\\u0061t\\u0061"'),
        VALID.replace(b", ", b" ,\r\n\t").replace(b": ", b" : "),
        b"\n\t " + VALID + b" \r\n",
        VALID.replace(b"2024-05-01T12", b"2024-05-01\\u005412"),
    ):
        assert receive(value) == plain


def test_unknown_fields_are_left_out_whatever_they_hold() -> None:
    for strange in (1e308, 10**300, LONE, "\x00", None, {"a>b": ["#"]}, [2**70]):
        value = encode(event(extra=strange, data={**DATA["cart.item_added"], "extra": strange}))
        assert receive(value) == receive(VALID)
    assert receive(VALID[:-1] + b', "extra": 1e999}') == receive(VALID)
    assert receive(VALID[:-1] + b', "traceparent": "00-\xc3\xa9"}') == receive(VALID)


@pytest.mark.parametrize("text", [
    "{p1}", "}{", "*", "a b", " ", "\x00", "a\x00b", "😀", "\u202eoffer\u202c", "مرحبا", "e\u0301",
    "'] redis.call('FLUSHALL')", "return redis.call('FLUSHALL')", "'; DROP TABLE", "a\nb", "\x7f",
    "%s%n{0}", "<script>", "../..", "\ufeff", "\uffff", "顧客-1", "\u2028", '"', "\\", "null",
])  # fmt: skip
def test_ids_that_look_hostile_come_in_as_they_are(text: str) -> None:
    safe = text.replace(">", "").replace("#", "")
    data = {**DATA["cart.item_added"], "cart_id": text, "item": {**ITEM, "sku": safe}}
    envelope = event(id=text, source=text, subject=text, data=data)
    for value in (encode(envelope), msgspec.json.encode(envelope)):
        found = receive(value, key=text.encode())
        assert (found.id, found.source, found.subject) == (text, text, text)
        assert isinstance(found.data, CartItemAdded)
        assert (found.data.cart_id, found.data.item.sku) == (text, safe)


def test_a_detail_names_the_field_and_never_what_stood_in_it() -> None:
    secret = "Taro-Yamada"
    hostile = [
        (event(**{name: [secret]}), "cart", name) for name in ("id", "source", "subject", "time")
    ]
    hostile += [
        (event(type=secret), "cart", "type"),
        (event(time=secret), "cart", "time"),
        (event(data={**DATA["cart.item_added"], "cart_id": [secret]}), "cart", "data.cart_id"),
        (event(data={**DATA["cart.item_added"], "currency": secret}), "cart", "data.currency"),
        (event(data={**DATA["cart.item_added"], "item": {"sku": 1}}), "cart", "data.item.sku"),
        (event("offer.declined", data={"offer_id": "f", "reason": secret}), "feedback", "reason"),
        (event("customer.profile_set", data={"timezone": secret}), "customer", "data.timezone"),
        (event("customer.profile_set", data={"attributes": {secret: None}}), "customer", "data."),
        (event("customer.profile_set", data={"attributes": {secret: 2**60}}), "customer", "data."),
        (event("purchase.completed", data={secret: 1}), "purchase", "data.order_id"),
    ]
    for envelope, topic, field in hostile:
        with pytest.raises(Refused) as caught:
            receive(encode(envelope), topic=topic)
        assert field in caught.value.detail
        assert secret not in caught.value.detail
    for value, key in ((encode(event()), secret.encode()), (secret.encode(), b"x")):
        with pytest.raises(Refused) as caught:
            receive(value, key=key)
        assert secret not in caught.value.detail


def test_the_time_of_the_record_is_not_the_time_of_the_event() -> None:
    found = receive(encode(event(time="2024-05-01T21:34:56.789+09:00")))
    assert found.time_ms == AT_MS
    assert receive(encode(event(time=TIME[:-1] + "123Z"))).time_ms == AT_MS
