"""Event types of a book's own, segments of segments, and rules that hold for a while."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams.codec import Door, LineDoor
from streams.murmur2 import Places
from streams.recorded import read_events
from streams.settings import load_settings
from streams.world import World as Shared
from tests.unit.harness import DAY, HOUR, NOON, REASON, World, make_book
from triggers.book import Book
from triggers.catalog import Catalog
from triggers.compiler import compile_content
from triggers.customtypes import FIELD_TYPES
from triggers.decisions import Offer
from triggers.durations import to_ms, to_text
from triggers.engine import advance, step
from triggers.errors import Refused
from triggers.events import Event
from triggers.judgement import Step

HEAD = {"name": "test", "timezone": "Asia/Tokyo", "currency": "JPY"}
SEAT = {
    "topic": "usage",
    "about": "seat_id",
    "fields": {"seat_id": "id", "course": "text", "places": "integer", "note": "text?"},
}
RULE = {
    "id": "seat",
    "kind": "follow_up",
    "on": "seat.reserved",
    "channel": "email",
    "pick": "none",
    "reason": {"ja": "{event.course}", "en": "{event.course}"},
    "when": ["event.places > 1"],
}
FREED = {"topic": "usage", "about": "seat_id", "fields": {"seat_id": "id"}}


def compiled(*rules: dict[str, Any], **content: Any) -> Book:
    found = compile_content({"book": HEAD, "rules": list(rules), **content})
    assert isinstance(found, Book), found
    return found


def faults(*rules: dict[str, Any], **content: Any) -> list[tuple[tuple[str | int, ...], str]]:
    found = compile_content({"book": HEAD, "rules": list(rules), **content})
    assert not isinstance(found, Book)
    return [(fault.path, fault.message) for fault in found]


def send(world: World, kind: str, at: int, **data: Any) -> Step:
    payload = msgspec.convert(data, world.book.custom[kind].data)
    event = Event(f"{kind}{at}", "shop", kind, "c1", at, payload)
    return step(world.customer, event, at, world.book, world.catalog)


def line(kind: str, **data: Any) -> bytes:
    fields = {"specversion": "1.0", "id": "1", "source": "s", "type": kind, "subject": "c1"}
    return msgspec.json.encode({**fields, "time": to_text(NOON), "data": data})


def test_a_rule_sees_the_typed_fields_of_a_custom_event() -> None:
    world = World(compiled(RULE, events={"seat.reserved": SEAT}))
    assert not send(world, "seat.reserved", NOON, seat_id="s1", course="Go", places=1).offers
    out = send(world, "seat.reserved", NOON + 1, seat_id="s1", course="Go", places=2)
    (offer,) = out.offers
    assert isinstance(offer, Offer)
    assert (offer.about, offer.reason["en"]) == ("s1", "Go")


def test_a_timer_of_a_custom_event_outlives_a_restart_and_is_cancelled_about_the_same_seat() -> (
    None
):
    rule = {**RULE, "after": "1d", "unless": "seat.freed", "when": ["event.course == 'Go'"]}
    world = World(compiled(rule, events={"seat.reserved": SEAT, "seat.freed": FREED}))
    for seat in ("s1", "s2"):
        send(world, "seat.reserved", NOON + int(seat[1]), seat_id=seat, course="Go", places=1)
    world.reload()
    send(world, "seat.freed", NOON + HOUR, seat_id="s1")
    out = world.pass_to(NOON + 2 * DAY)
    assert [(offer.about, offer.at) for offer in out.offers] == [("s2", NOON + 2 + DAY)]


def test_what_armed_a_timer_may_have_lost_its_type_since() -> None:
    rule = {**RULE, "on": ["seat.reserved", "cart.viewed"], "after": "1d", "when": []}
    world = World(compiled(rule, events={"seat.reserved": SEAT}))
    send(world, "seat.reserved", NOON, seat_id="s1", course="Go", places=1)
    world.reload()
    out = Step()
    later = compiled({**rule, "on": "cart.viewed", "reason": REASON})
    advance(world.customer, NOON + DAY, later, world.catalog, out)
    assert [decision.outcome for decision in out.decisions] == ["offered"]


def test_the_door_lets_declared_events_in_on_their_topic_only() -> None:
    custom = compiled(RULE, events={"seat.reserved": SEAT}).custom
    good = line("seat.reserved", seat_id="s1", course="Go", places=2)
    place = Places(4).of(b"c1")
    door = Door(4, custom)
    event = door.decode("usage", place, b"c1", good, None, NOON, NOON)
    assert event.data.course == "Go"
    with pytest.raises(Refused, match="unknown_type"):
        door.decode("cart", place, b"c1", good, None, NOON, NOON)
    with pytest.raises(Refused, match="unknown_type"):
        Door(4).decode("usage", place, b"c1", good, None, NOON, NOON)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("id", "a", ""),
        ("sku", "a", "a>b"),
        ("text", "", 1),
        ("integer", -1, 1.5),
        ("amount", 0, -1),
        ("number", 1.5, "1.5"),
        ("boolean", True, 1),
        ("time", "2026-03-02T10:00:00+09:00", "2026-03-02 10:00"),
        ("texts", ["a"], "a"),
        ("items", [{"sku": "a", "quantity": 1, "unit_price": 1}], [{"sku": "a"}]),
        ("item", {"sku": "a", "quantity": 1, "unit_price": 1}, {"sku": "a", "quantity": 0}),
    ],
)
def test_every_type_of_field_is_checked_at_the_door(kind: str, good: Any, bad: Any) -> None:
    name = kind if kind in ("item", "items", "sku") else "value"
    declared = {"topic": "cart", "fields": {name: kind, "extra": "text?"}}
    door = LineDoor(compiled(events={"thing.done": declared}).custom)
    assert door.decode(line("thing.done", **{name: good})).type == "thing.done"
    for value in ({name: bad}, {}, {name: good, "extra": 5}):
        with pytest.raises(Refused, match="bad_data"):
            door.decode(line("thing.done", **value))


def test_every_type_of_field_has_its_line_above() -> None:
    (mark,) = [
        mark
        for mark in test_every_type_of_field_is_checked_at_the_door.pytestmark
        if mark.name == "parametrize"
    ]
    assert {row[0] for row in mark.args[1]} == set(FIELD_TYPES)


def test_a_new_book_opens_the_door_to_its_own_types() -> None:
    old, new = compiled(), compiled(RULE, events={"seat.reserved": SEAT})
    absent: Any = None
    settings = load_settings(partitions=4)
    world = Shared(absent, Door(4), old, Catalog(), absent, absent, settings)
    good = line("seat.reserved", seat_id="s1", course="Go", places=2)
    record = ("usage", Places(4).of(b"c1"), b"c1", good, None, NOON, NOON)
    with pytest.raises(Refused, match="unknown_type"):
        world.door.decode(*record)
    world.use(new)
    assert world.door.decode(*record).type == "seat.reserved"
    assert world.book is new


def test_the_shop_knows_the_topic_of_a_custom_event(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_bytes(line("seat.reserved", seat_id="s", course="c", places=1))
    assert [e.topic for e in read_events([file], {"seat.reserved": "usage"})] == ["usage"]


@pytest.mark.parametrize(
    ("name", "change", "path", "message"),
    [
        ("cart.viewed", {}, (), "is an event type of the contract"),
        ("offer.seen", {}, (), "names in offer.* belong to the contract"),
        ("a.b", {"fields": {"x": "txt"}}, ("fields", "x"), "unknown type txt; did you mean text?"),
        ("a.b", {"fields": {"customer": "id"}}, ("fields", "customer"), "belongs to the envelope"),
        ("a.b", {"fields": {"cart_id": "text"}}, ("fields", "cart_id"), "is of type id"),
        ("a.b", {"fields": {"thing": "item"}}, ("fields", "thing"), "has the name item"),
        ("a.b", {"about": "seat"}, ("about",), "no field seat; did you mean seat_id?"),
        ("a.b", {"about": "places"}, ("about",), "places is of type integer"),
        ("a.b", {"topic": "catalog"}, ("topic",), "Input should be"),
    ],
)
def test_a_wrong_declaration_is_told_at_its_place(
    name: str, change: dict[str, Any], path: tuple[str, ...], message: str
) -> None:
    fields = {**SEAT["fields"], **change.get("fields", {})}  # type: ignore[dict-item]
    (found,) = faults(events={name: {**SEAT, **change, "fields": fields}})
    assert found[0] == ("events", name, *path)
    assert message in found[1]


def test_an_unknown_field_of_a_custom_event_is_a_fault() -> None:
    rule = {**RULE, "when": ["event.place > 1"]}
    (found,) = faults(rule, events={"seat.reserved": SEAT})
    assert found[1] == "unknown name event.place; did you mean event.places?"


# --- segments ---


def test_segments_use_each_other_in_whatever_order_they_stand() -> None:
    segments = {"a": "segment.z && customer.orders == 0", "z": "customer.locale == ''"}
    world = World(
        compiled(
            {**RULE, "on": "cart.viewed", "when": ["segment.a"], "reason": REASON},
            segments=segments,
        )
    )
    assert world.send("cart.viewed", cart_id="k", subtotal=1, currency="JPY").offers
    segments["z"] = "customer.locale == 'ja'"
    world = World(
        compiled(
            {**RULE, "on": "cart.viewed", "when": ["segment.a"], "reason": REASON},
            segments=segments,
        )
    )
    assert not world.send("cart.viewed", cart_id="k", subtotal=1, currency="JPY").offers


def test_a_circle_of_segments_is_told() -> None:
    found = faults(segments={"a": "segment.b", "b": "segment.c", "c": "segment.b", "d": "true"})
    assert any("segments that name each other: b -> c -> b" in text for _, text in found), found
    assert any("a -> a" in text for _, text in faults(segments={"a": "segment.a"}))


# --- retire ---


@pytest.mark.parametrize(
    ("at", "offers"),
    [
        ("2026-12-23T23:59:59.999+09:00", 0),
        ("2026-12-24T00:00:00+09:00", 1),
        ("2026-12-24T17:59:59.999+09:00", 1),
        ("2026-12-24T18:00:00+09:00", 0),
    ],
)
def test_a_rule_holds_from_one_date_and_before_the_other(at: str, offers: int) -> None:
    dates = {"from": "2026-12-24", "to": "2026-12-24 18:00"}
    world = World(make_book({"id": "xmas", "on": "cart.item_added", "retire": dates}))
    world.add("a", to_ms(at))
    assert len(world.out.offers) == offers


def test_a_timer_that_is_due_after_the_rule_retired_decides_nothing() -> None:
    rule = {"id": "week", "on": "purchase.completed", "after": "7d", "kind": "follow_up"}
    world = World(make_book({**rule, "retire": {"to": to_text(NOON + 7 * DAY)}}))
    world.buy("o1", ["a"], NOON - 1)
    world.buy("o2", ["a"], NOON)
    world.pass_to(NOON + 8 * DAY)
    assert [(d.at, d.outcome) for d in world.out.decisions] == [(NOON + 7 * DAY - 1, "offered")]


def test_a_rule_arms_nothing_before_its_first_date() -> None:
    rule = {"id": "week", "on": "purchase.completed", "after": "7d", "kind": "follow_up"}
    world = World(make_book({**rule, "retire": {"from": to_text(NOON)}}))
    world.buy("o1", ["a"], NOON - 1)
    world.buy("o2", ["a"], NOON)
    world.pass_to(NOON + 8 * DAY)
    assert [d.at for d in world.out.decisions] == [NOON + 7 * DAY]


@pytest.mark.parametrize(
    ("dates", "message"),
    [
        ({"from": "24.12.2026"}, "is no date such as 2026-12-24"),
        ({"from": "2026-12-25", "to": "2026-12-24"}, "lies before `from`"),
    ],
)
def test_wrong_dates_are_faults(dates: dict[str, str], message: str) -> None:
    (found,) = faults({**RULE, "retire": dates}, events={"seat.reserved": SEAT})
    assert message in found[1]
