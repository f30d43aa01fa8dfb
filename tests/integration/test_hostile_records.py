"""Hostile records through the door, the partition and a real store; the next event is applied."""

from __future__ import annotations

import gc
import gzip
import hashlib
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from streams.clock import LogClock
from streams.deadletters import VALUE_KEPT_BYTES
from streams.embedded import EmbeddedStore
from streams.store.keys import key_slot, partition_keys
from tests.contract.door_samples import CUSTOMER_TYPES, DATA
from tests.integration.audit import audit
from tests.integration.bench import Bench, Log, Outcome, StandingClock, model, offsets, same
from tests.integration.stores import keys_of, opened, run
from tests.simulation import hostile
from tests.unit.harness import DAY, NOON, make_book
from triggers.book import Book
from triggers.durations import to_text
from triggers.events import EVENT_TYPES, INT_MAX, TOPICS

#: A record that is refused holds up what follows by no more than this, in seconds of the CPU.
HOLD_S_MAX = 0.1

pytestmark = pytest.mark.usefixtures("raw")


def book() -> Book:
    return make_book(
        {"id": "now", "on": "cart.item_added"},
        {"id": "week", "kind": "follow_up", "on": "cart.item_added", "after": "7d"},
    )


def envelope(customer: str = "ann", **changes: Any) -> dict[str, Any]:
    event = {
        "specversion": "1.0",
        "id": "bad",
        "source": "shop",
        "type": "cart.item_added",
        "time": to_text(NOON),
        "subject": customer,
        "data": cart(),
    }
    return {**event, **changes}


def cart(**item: Any) -> dict[str, Any]:
    line = {"sku": "s1", "quantity": 1, "unit_price": 4980, **item}
    return {"cart_id": "k", "item": line, "subtotal": 4980, "currency": "JPY"}


def text(event: Any = None) -> bytes:
    return json.dumps(envelope() if event is None else event).encode()


def without(name: str) -> bytes:
    return text({key: one for key, one in envelope().items() if key != name})


def run_log(server: EmbeddedStore, used: Book, log: Log, until_ms: int) -> Outcome:
    found: list[Outcome] = []

    async def work() -> None:
        async with opened(server) as store:
            found.append(await Bench(store, used, log).run(until_ms))

    run(work())
    return found[0]


def around(bad: bytes | None, key: bytes | None = b"ann", partition: int | None = None) -> Log:
    """A log: a consent, the hostile record, and an event of the same customer behind it."""
    log = Log(2)
    log.event("consent.granted", "ann", NOON, {"channel": "*"}, "c")
    where = log.event("product.viewed", "ann", NOON, {"sku": "s1"}, "v")[1]
    log.append("cart", key, bad, NOON + 1, where if partition is None else partition)
    log.event("cart.item_added", "ann", NOON + 2, cart(), "good")
    return log


def event_ids(found: Outcome) -> list[str]:
    return [json.loads(offer)["data"]["trigger"].get("event_id") for offer in found.offers.values()]


#: What is no event, and the reason with which it is refused.
MALFORMED: dict[str, tuple[bytes | None, str]] = {
    "nothing": (b"", "not_json"),
    "a tombstone": (None, "not_json"),
    "half of it": (text()[:-9], "not_json"),
    "a byte order mark": (b"\xef\xbb\xbf" + text(), "not_json"),
    "utf-16": (text().decode().encode("utf-16"), "not_json"),
    "latin-1": (text(envelope(note="é")).replace(b"\\u00e9", b"\xe9"), "not_json"),
    "nan": (text().replace(b"4980", b"NaN"), "not_json"),
    "infinity": (text().replace(b"4980", b"-Infinity"), "not_json"),
    "a comma too many": (text().replace(b"}}", b",}}"), "not_json"),
    "two values": (text() * 2, "not_json"),
    "a zip bomb's bytes": (gzip.compress(b"\x00" * 10_000_000), "not_json"),
    "a megabyte": (text(envelope(note="x" * 1_000_000)), "too_large"),
    "ten megabytes": (text(envelope(note="x" * 10_000_000)), "too_large"),
    "ten megabytes of brackets": (b"[" * 10_000_000, "too_large"),
    "100,000 levels": (b"[" * 100_000 + b"]" * 100_000, "too_deep"),
    "100,000 levels beside an event": (
        text().replace(b"{", b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b",", 1), "too_deep",
    ),
    "33 levels": (text(envelope(note=json.loads("[" * 32 + "]" * 32))), "too_deep"),
    "a list": (b"[]", "bad_envelope"),
    "the word null": (b"null", "bad_envelope"),
    "no id": (without("id"), "bad_envelope"),
    "no subject": (without("subject"), "bad_envelope"),
    "no data": (without("data"), "bad_envelope"),
    "a number for an id": (text(envelope(id=7)), "bad_envelope"),
    "another version": (text(envelope(specversion="2.0")), "bad_envelope"),
    "half a surrogate pair": (text(envelope(id="\ud800")), "bad_envelope"),
    "an unknown type": (text(envelope(type="cart.item_added.v2")), "unknown_type"),
    "a type of another topic": (text(envelope(type="purchase.completed")), "unknown_type"),
    "a text for a number": (text(envelope(data=cart(unit_price="4980"))), "bad_data"),
    "a list for an item": (text(envelope(data={**cart(), "item": []})), "bad_data"),
    "no item": (text(envelope(data={"cart_id": "k"})), "bad_data"),
    "5,000 digits": (text().replace(b"4980", b"9" * 5_000), "bad_data"),
    "1e999": (text().replace(b"4980", b"1e999"), "bad_data"),
    "the last of two types": (
        text().replace(b'"type":', b'"type": "cart.item_added", "type": "x", "y":'), "unknown_type",
    ),
}  # fmt: skip


def timed(server: EmbeddedStore, log: Log) -> tuple[float, Outcome]:
    """Processor time of a run on an empty store, seconds, and what came of it."""
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    gc.disable()  # what the rest of the tests has left in memory is not this record's affair
    try:
        begun = time.process_time()
        found = run_log(server, book(), log, NOON + 2)
        return time.process_time() - begun, found
    finally:
        gc.enable()


@pytest.mark.parametrize("name", MALFORMED)
def test_s20_a_malformed_record_becomes_a_dead_letter_and_the_next_event_is_applied(
    server: EmbeddedStore, name: str
) -> None:
    bad, reason = MALFORMED[name]
    log = around(bad)
    usual, _ = timed(server, around(text(envelope(type="x"))))  # what else a run costs
    took, found = timed(server, log)
    for _ in range(4):  # a machine that does other things too makes one of them long
        if took >= usual + HOLD_S_MAX:
            took, found = timed(server, log)
    assert took < usual + HOLD_S_MAX
    ((place, why),) = found.refused.items()
    assert why == reason
    assert log.records[place[:2]][place[2]].value == bad
    assert event_ids(found) == ["good"]
    whole = bad or b""
    (letter,) = found.letters
    headers = dict(letter.headers or ())
    assert (letter.key, letter.value) == (b"ann", whole[:VALUE_KEPT_BYTES])
    assert headers["sha256"] == hashlib.sha256(whole).hexdigest().encode()
    assert len(headers["detail"]) < 200
    ends = {at: len(records) for at, records in log.records.items()}
    audit(offsets(log), ends, found.letters).check()


#: What looks odd and is an event all the same.
TAKEN: dict[str, bytes] = {
    "a product that nobody knows": text(envelope(data=cart(sku="never-heard-of"))),
    "the last of two keys": text().replace(b'"type":', b'"type": "x", "type":'),
    "brackets in a text": text(envelope(note="[{" * 1_000)),
    "32 levels": text(envelope(note=json.loads("[" * 31 + "]" * 31))),
    "a field that nobody knows": text(envelope(note=None)),
    "spaces around": b" \n" + text() + b"\t ",
    "5,000 digits in a field that nobody knows": text(envelope(note=7)).replace(
        b'"note": 7', b'"note": ' + b"7" * 5_000
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_s20_what_only_looks_odd_is_applied(server: EmbeddedStore, name: str) -> None:
    log = around(TAKEN[name])
    found = run_log(server, book(), log, NOON + 30 * DAY)
    same(found, model(book(), log, NOON + 30 * DAY))
    assert found.refused == {}
    assert {"bad", "good"} <= set(event_ids(found))


def test_s20_all_malformed_records_at_once_stop_nothing(server: EmbeddedStore) -> None:
    log = Log(2)
    log.event("consent.granted", "ann", NOON, {"channel": "*"}, "c")
    where = log.event("cart.item_added", "ann", NOON, cart(), "e0")[1]
    expected = {}
    for number, (bad, reason) in enumerate(MALFORMED.values(), start=1):
        expected[log.append("cart", b"ann", bad, NOON + number, where)] = reason
        log.event("cart.item_added", "ann", NOON + number, cart(), f"e{number}")
    expected[log.append("cart", b"bob", text(), NOON + 99, where)] = "key_mismatch"
    expected[log.append("cart", None, text(), NOON + 99, where)] = "key_mismatch"
    expected[log.append("cart", b"ann", text(), NOON + 99, 1 - where)] = "wrong_partition"
    found = run_log(server, book(), log, NOON + 30 * DAY)
    assert found.refused == expected
    same(found, model(book(), log, NOON + 30 * DAY))
    assert len(set(event_ids(found)) - {None}) == len(MALFORMED) + 1


PIECES = (b"", b" ", b'"', b"\\", b"{", b"]", b",", b"\xff", b"\x00", b"1e999", b"null", b"NaN")


def spoilt(value: bytes, chance: random.Random) -> bytes:
    """A value with a few bytes of it changed."""
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(value) + 1)
        value = value[:at] + chance.choice(PIECES) + value[at + chance.randrange(3) :]
    return value


#: Whoever is gone gets no letters, which is for the tests of S24 to show.
STAYING = tuple(
    kind for kind in CUSTOMER_TYPES if kind not in ("customer.erase_requested", "customer.objected")
)


def any_log(chance: random.Random) -> Log:
    """What some customers do who stay, and among it everything that a topic can hold."""
    log, at = Log(3), NOON
    people = ("ann", "{p1}", "\x00", "\U0001f6d2")
    for name in people:
        log.event("consent.granted", name, at, {"channel": "*"}, "c" + name)
    for number in range(300):
        at += chance.choice((0, 1, 1_000, 3_600_000))
        name, kind = chance.choice(people), chance.choice(STAYING)
        key = name.encode()
        value: bytes | None = hostile.envelope(
            kind, number % 250, name, at, hostile.mutated(DATA[kind], chance)
        )
        headers: tuple[tuple[str, bytes], ...] = ()
        topic, when, place = EVENT_TYPES[kind].topic, at, None
        match chance.randrange(12):
            case 0 | 1:
                value = spoilt(value or b"", chance)
            case 2:
                value, _ = chance.choice(tuple(MALFORMED.values()))
            case 3:
                topic, place = chance.choice(TOPICS), chance.randrange(3)
            case 4:
                key = chance.choice((b"", b"\xff", b"other", key + b" "))
            case 5:
                headers = (("ce_id", b"b%d" % number), ("ce_type", kind.encode()))
                headers += (
                    ("ce_source", b"\xff" if number % 3 else b"s"),
                    ("ce_specversion", b"1.0"),
                )
            case 6:
                when = chance.choice((-1, -(2**63)))
        log.append(topic, key, value, when, place, headers)
    return log


@pytest.mark.parametrize("seed", range(6))
def test_s20_of_any_log_each_record_is_applied_or_refused_as_the_model_says(
    server: EmbeddedStore, seed: int
) -> None:
    chance = random.Random(seed)
    log = any_log(chance)
    until = log.last_ms() + 30 * DAY
    found: list[Outcome] = []

    async def work() -> None:
        async with opened(server) as store:
            found.append(await Bench(store, book(), log).run(until, chance, reopen=0.1))

    run(work())
    expected = model(book(), log, until)
    same(found[0], expected)
    assert 50 < len(expected.refused) < 280
    assert len(set(expected.refused.values())) > 6
    ends = {at: len(records) for at, records in log.records.items()}
    audit(offsets(log), ends, found[0].letters).check()


# --- S21: ids ---

LUA = "'] redis.call('FLUSHALL') --"
IDS = (
    "\U0001f6d2", "\u202eabc\u202c", "\x00", "a\x00b", "e\u0301", "\u00e9", "x" * 256, "é" * 128,
    " ", "  a  ", "\t\n\r", "{p1}", "}{", "{", "{}", "*", "?[a-z]", LUA, 'x" }\\', "-1", "NaN",
    "null", "*3\r\n$3\r\nSET\r\n", "%s{0}", "<script>alert(1)</script>", "../../etc/passwd", "n",
)  # fmt: skip


def test_s21_any_id_is_kept_as_it_came_and_each_is_a_customer_of_its_own(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    log = Log(4)
    for number, name in enumerate(IDS):
        log.event("consent.granted", name, NOON, {"channel": "*"}, f"c{number}")
        log.event("cart.item_added", name, NOON + 1 + number, cart(sku=f"s{number}"), f"e{number}")
    found = run_log(server, book(), log, NOON + 30 * DAY)  # the week's timers fire, too
    same(found, model(book(), log, NOON + 30 * DAY))
    assert found.customers.keys() == set(IDS)
    made = [json.loads(offer) for offer in found.offers.values()]
    assert sorted(one["subject"] for one in made) == sorted(IDS * 2)
    for number, name in enumerate(IDS):
        lines = found.shop(name).now.carts[0].lines
        assert list(lines) == [f"s{number}"]
    slots = {key_slot(partition_keys(number).meta) for number in range(4)}
    assert {key_slot(key) for key in keys_of(raw)} == slots


@pytest.mark.parametrize("field", ["id", "source", "subject"])
@pytest.mark.parametrize("odd", IDS)
def test_s21_any_id_of_an_event_goes_into_the_offer_as_it_came(
    server: EmbeddedStore, field: str, odd: str
) -> None:
    log = Log(2)
    name = odd if field == "subject" else "ann"
    log.event("consent.granted", name, NOON, {"channel": "*"}, "c")
    value = text(envelope(name, **({field: odd} if field != "subject" else {})))
    log.append("cart", name.encode(), value, NOON + 1)
    found = run_log(server, book(), log, NOON + 2)
    (offer,) = (json.loads(one) for one in found.offers.values())
    trigger = offer["data"]["trigger"]
    told = {"id": trigger["event_id"], "source": trigger["event_source"], "subject": name}
    assert told[field] == odd
    assert offer["subject"] == name


@pytest.mark.parametrize("field", ["id", "source", "subject"])
@pytest.mark.parametrize(
    "odd", ["", "x" * 257, "é" * 129, "x" * 10_000, "\ud800", "a\udfff", "\udfff\ud800"]
)
def test_s21_an_id_that_is_empty_too_long_or_no_utf_8_is_refused(
    server: EmbeddedStore, field: str, odd: str
) -> None:
    found = run_log(server, book(), around(text(envelope(**{field: odd}))), NOON + 2)
    assert list(found.refused.values()) == ["bad_envelope"]
    assert event_ids(found) == ["good"]


@pytest.mark.parametrize("field", ["sku", "category", "cart_id"])
@pytest.mark.parametrize("odd", ["\x00", "{p1}", LUA, "\U0001f6d2", "e\u0301", "\u202ea", "}{"])
def test_s21_any_id_inside_a_payload_is_kept_as_it_came(
    server: EmbeddedStore, field: str, odd: str
) -> None:
    data = {**cart(), "cart_id": odd} if field == "cart_id" else cart(**{field: odd})
    log = Log(1)
    log.append("cart", b"ann", text(envelope(data=data)), NOON)
    found = run_log(server, book(), log, NOON + 2)
    assert found.refused == {}
    found_cart = found.shop("ann").now.carts
    kept = {name for one in found_cart for name in (one.cart_id, *one.lines)}
    kept |= {line.category for one in found_cart for line in one.lines.values()}
    assert odd in kept


def test_s21_the_tag_in_front_decides_the_slot_whatever_braces_an_id_has(tmp_path: Path) -> None:
    """The server's own word for it, and that the order is what makes it so."""
    options = {"cluster-enabled": "yes", "cluster-config-file": "nodes.conf"}
    with (
        EmbeddedStore(tmp_path / "cluster", options=options) as server,
        redis.Redis.from_url(server.url) as client,
    ):

        def slot(key: bytes) -> int:
            return int(client.execute_command("CLUSTER", "KEYSLOT", key))

        home = slot(b"p3")
        assert {slot(key) for key in partition_keys(3).all} == {home}
        for name in (*IDS, "{p1}"):
            assert slot(b"{p3}:c:" + name.encode()) == home
            assert key_slot(b"{p3}:c:" + name.encode()) == home
        assert slot(b"c:{p1}:{p3}") == slot(b"p1") != home


# --- S22: numbers ---


def field(name: str, written: str) -> bytes:
    """An event whose `quantity`, `unit_price` or `subtotal` is written that way."""
    data = {**cart(), name: 4981} if name == "subtotal" else cart(**{name: 4981})
    return text(envelope(data=data)).replace(b"4981", written.encode())


@pytest.mark.parametrize(
    ("name", "written", "reason"),
    [
        *((name, "-1", "bad_data") for name in ("unit_price", "subtotal", "quantity")),
        *((name, "NaN", "not_json") for name in ("unit_price", "subtotal", "quantity")),
        *((name, "Infinity", "not_json") for name in ("unit_price", "quantity")),
        *((name, "1e308", "bad_data") for name in ("unit_price", "subtotal", "quantity")),
        *((name, "1e999", "bad_data") for name in ("unit_price", "subtotal", "quantity")),
        *((name, "9" * 4_301, "bad_data") for name in ("unit_price", "subtotal", "quantity")),
        *((name, "9007199254740992", "bad_data") for name in ("unit_price", "quantity")),
        *((name, "18446744073709551616", "bad_data") for name in ("unit_price", "quantity")),
        *((name, "19.99", "bad_data") for name in ("unit_price", "subtotal", "quantity")),
        ("unit_price", "19,99", "not_json"),
        ("unit_price", '"19,99"', "bad_data"),
        ("unit_price", '"1999"', "bad_data"),
        ("unit_price", "true", "bad_data"),
        ("unit_price", "null", "bad_data"),
        ("unit_price", "01", "not_json"),
        ("unit_price", "+1", "not_json"),
        ("unit_price", "0x10", "not_json"),
        ("unit_price", "١", "not_json"),
        ("unit_price", "1e3", "bad_data"),
        ("quantity", "0", "bad_data"),
        ("quantity", "-0", "bad_data"),
    ],
)
def test_s22_what_is_no_amount_or_quantity_is_refused(
    server: EmbeddedStore, name: str, written: str, reason: str
) -> None:
    found = run_log(server, book(), around(field(name, written)), NOON + 2)
    assert list(found.refused.values()) == [reason]
    assert event_ids(found) == ["good"]


@pytest.mark.parametrize(
    ("written", "value"),
    [("0", 0), ("-0", 0), ("2147483648", 2**31), ("9007199254740991", INT_MAX)],
)
def test_s22_an_amount_is_stored_to_its_last_digit(
    server: EmbeddedStore, written: str, value: int
) -> None:
    log = Log(1)
    log.append("cart", b"ann", field("unit_price", written), NOON)
    (line,) = run_log(server, book(), log, NOON + 1).shop("ann").now.carts[0].lines.values()
    assert line.unit_price == value
    assert isinstance(line.unit_price, int)


@pytest.mark.parametrize("quantity", [1, 2**31, INT_MAX])
def test_s22_a_quantity_is_stored_to_its_last_digit(server: EmbeddedStore, quantity: int) -> None:
    log = Log(1)
    log.append("cart", b"ann", field("quantity", str(quantity)), NOON)
    (line,) = run_log(server, book(), log, NOON + 1).shop("ann").now.carts[0].lines.values()
    assert line.quantity == quantity


def test_s22_a_cart_has_the_currency_of_its_last_event_and_no_currency_is_made_up(
    server: EmbeddedStore,
) -> None:
    log = Log(1)
    for number, currency in enumerate(("JPY", "USD")):
        log.event("cart.item_added", "ann", NOON + number, {**cart(), "currency": currency},
                  f"e{number}")  # fmt: skip
    for number, currency in enumerate(("yen", "JP", "JPYY", "", "¥¥¥", "jpy", "J Y")):
        value = text(envelope(id=f"b{number}", data={**cart(), "currency": currency}))
        log.append("cart", b"ann", value, NOON + 9)
    found = run_log(server, book(), log, NOON + 10)
    assert list(found.refused.values()) == ["bad_data"] * 7
    assert found.shop("ann").now.carts[0].currency == "USD"


# --- S23: times at the door ---


def rfc(at_ms: int) -> str:
    return to_text(at_ms)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (rfc(NOON + DAY + 2), "time_out_of_range"),  # a day and a millisecond after its record
        (rfc(NOON + 3_650 * DAY), "time_out_of_range"),
        ("9999-12-31T23:59:59Z", "time_out_of_range"),
        ("9999-12-31T23:59:59.999-23:59", "time_out_of_range"),
        ("10000-01-01T00:00:00Z", "bad_envelope"),
        ("0000-01-01T00:00:00Z", "time_out_of_range"),
        ("-001-01-01T00:00:00Z", "bad_envelope"),
        ("1969-12-31T23:59:59Z", "time_out_of_range"),
        ("1970-01-01T00:00:00Z", "time_out_of_range"),
        ("1999-12-31T23:59:59.999Z", "time_out_of_range"),
        ("2026-03-02T12:00:00", "bad_envelope"),
        ("2026-03-02", "bad_envelope"),
        ("2026-02-30T12:00:00Z", "bad_envelope"),
        ("2026-03-02T25:00:00Z", "bad_envelope"),
        ("2026-03-02T12:00:00+09", "bad_envelope"),
        (str(NOON), "bad_envelope"),  # milliseconds, as a text and as a number
        (str(NOON // 1000), "bad_envelope"),
        (NOON, "bad_envelope"),
        (NOON // 1000, "bad_envelope"),
        ("", "bad_envelope"),
    ],
)
def test_s23_a_time_that_cannot_be_is_refused(
    server: EmbeddedStore, written: str | int, reason: str
) -> None:
    found = run_log(server, book(), around(text(envelope(time=written))), NOON + 2)
    assert list(found.refused.values()) == [reason]
    assert event_ids(found) == ["good"]


@pytest.mark.parametrize(
    "written", ["2000-01-01T00:00:00Z", rfc(NOON + DAY), "2016-12-31T23:59:60Z"]
)
def test_s23_an_events_own_time_arms_no_timer(server: EmbeddedStore, written: str) -> None:
    log = Log(1)
    log.event("consent.granted", "ann", NOON, {"channel": "*"}, "c")
    log.append("cart", b"ann", text(envelope(time=written)), NOON + 1)
    found = run_log(server, book(), log, NOON + 30 * DAY)
    same(found, model(book(), log, NOON + 30 * DAY))
    dues = [json.loads(one)["data"]["trigger"].get("due") for one in found.offers.values()]
    assert [due for due in dues if due] == [rfc(NOON + 1 + 7 * DAY)]


@pytest.mark.parametrize("log_clock", [False, True])
@pytest.mark.parametrize("at_ms", [-1, -(2**63), NOON * 1_000, 2**62, 2**63 - 1])
def test_s23_a_records_timestamp_in_another_unit_is_refused_and_holds_nobody_up(
    server: EmbeddedStore, at_ms: int, log_clock: bool
) -> None:
    log = around(text())
    place, records = next(
        (place, records) for (topic, place), records in log.records.items() if topic == "cart"
    )
    bad = next(at for at, record in enumerate(records) if record.timestamp == NOON + 1)
    records[bad] = records[bad]._replace(timestamp=at_ms)
    found: list[Outcome] = []
    clock = LogClock(StandingClock().wall_ms) if log_clock else StandingClock()

    async def work() -> None:
        async with opened(server) as store:
            bench = Bench(store, book(), log, clock)
            bench.clock.observe(NOON)
            found.append(await bench.run(NOON + 10 * DAY))

    run(work())
    assert found[0].refused == {("cart", place, bad): "time_out_of_range"}
    assert "good" in event_ids(found[0])
