"""Customers with whom nothing happens are forgotten, whatever the store dropped when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.harness import DAY, HOUR, NOON, World, make_book
from triggers.book import Book
from triggers.compiler import compile_content
from triggers.customer import Customer
from triggers.forgetting import forget_idle

CART = {"cart_id": "cart", "subtotal": 700, "currency": "JPY"}
ONCE = {"id": "once", "on": "cart.viewed", "once_per": "customer"}
LATER = {"id": "later", "on": "cart.viewed", "after": "399d"}


def book(*rules: dict[str, str], **more: object) -> Book:
    return make_book(*(rules or (ONCE,)), **more)


def view(world: World, at: int) -> list[str]:
    return [d.outcome for d in world.send("cart.viewed", at, **CART).decisions]


def test_who_was_idle_for_just_the_span_is_known() -> None:
    world = World(book())
    assert view(world, NOON) == ["offered"]
    out = world.send("cart.viewed", NOON + 400 * DAY, **CART)
    assert [(d.outcome, d.reason) for d in out.decisions] == [("suppressed", "cooldown")]
    assert len(world.customer.offers.made) == 1


def test_who_was_idle_for_longer_is_somebody_new() -> None:
    world = World(book())
    view(world, NOON)
    out = world.send("cart.viewed", NOON + 400 * DAY + 1, **CART)
    assert [(d.outcome, d.reason) for d in out.decisions] == [("suppressed", "no_consent")]
    assert world.customer.offers.made == []


def test_each_event_and_each_timer_begins_the_span_anew() -> None:
    world = World(book(LATER))
    view(world, NOON)
    world.pass_to(NOON + 399 * DAY)
    assert world.customer.now.at == NOON + 399 * DAY
    world.send("cart.viewed", NOON + 799 * DAY, **CART)
    assert world.customer.now.consents


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (
            "contract.started",
            {"contract_id": "k", "plan": "p", "renews_at": "2027-03-02T00:00:00Z"},
        ),
        ("cart.viewed", CART),
    ],
    ids=["a running contract", "a pending timer"],
)
def test_of_whom_something_is_to_come_nothing_is_forgotten(
    kind: str, data: dict[str, object]
) -> None:
    world = World(book({**LATER, "after": "400d"}, forget_after="400d"))
    world.send(kind, NOON, **data)
    if kind == "cart.viewed":
        world.customer.now.timers[0].due_ms += 700 * DAY
    assert not forget_idle(world.customer, NOON + 1_000 * DAY, world.book)


def test_visitors_may_be_forgotten_sooner_than_customers() -> None:
    used = book(forget_visitors_after="30d")
    for consent in (False, True):
        world = World(used, consent=consent)
        view(world, NOON)
        out = world.send("cart.viewed", NOON + 30 * DAY + HOUR, **CART)
        assert out.notes.get("customer_forgotten", 0) == (not consent)


def test_who_is_forgotten_leaves_nothing_in_the_store() -> None:
    world = World(book())
    view(world, NOON)
    kept = dict(world.customer.take_changes())
    again = Customer("c1", dict(kept))
    assert forget_idle(again, NOON + 401 * DAY, world.book)
    changes = dict(again.take_changes())
    assert changes.keys() >= kept.keys()
    assert set(changes.values()) == {b""}


@given(st.lists(st.integers(1, 900), min_size=1, max_size=6), st.data())
def test_p7_answers_do_not_depend_on_when_the_store_drops_whom(
    gaps: list[int], data: st.DataObject
) -> None:
    used = book(ONCE, {"id": "any", "on": "cart.viewed", "after": "3d"})
    kept, swept = World(used), World(used)
    at = NOON
    for gap in gaps:
        at += gap * DAY
        if data.draw(st.booleans()):
            swept.pass_to(at - DAY // 2)
            if forget_idle(swept.customer, at - DAY // 2, used):
                swept.customer = Customer("c1")
        for world in (kept, swept):
            world.send("consent.granted", at, channel="*") if gap % 2 else None
            view(world, at)
    for world in (kept, swept):
        world.pass_to(at + 10 * DAY)
    assert [(d.offer_id, d.outcome) for d in kept.out.decisions] == [
        (d.offer_id, d.outcome) for d in swept.out.decisions
    ]
    assert kept.customer.now.fields() == swept.customer.now.fields()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"forget_after": "6d"}, "is from 7d to 1100d"),
        ({"forget_after": "1101d"}, "is from 7d to 1100d"),
        ({"forget_after": "soon"}, "duration"),
        ({"forget_after": "30d", "forget_visitors_after": "31d"}, "at most `forget_after`"),
        ({"forget_after": "60d", "limits": [{"max": 1, "in": "61d"}]}, "looks back 61d"),
    ],
)
def test_spans_that_would_break_a_promise_are_refused(keys: dict[str, object], said: str) -> None:
    head = {"name": "test", "timezone": "Asia/Tokyo", "currency": "JPY", **keys}
    found = compile_content({"book": head, "rules": []})
    assert isinstance(found, list)
    assert any(said in fault.message for fault in found), found
