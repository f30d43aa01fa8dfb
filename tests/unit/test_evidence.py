"""What an offer rests on: the event behind it, and the facts that its conditions looked at."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.unit.harness import DAY, MINUTE, NOON, World, make_book
from triggers.decisions import Offer


def evidence(world: World, place: int = -1) -> list[dict[str, Any]]:
    offer = world.out.offers[place]
    assert isinstance(offer, Offer)
    body = msgspec.json.decode(offer.encode())
    return list(body["data"]["evidence"])


def shown(*lines: str, **attributes: Any) -> dict[str, Any]:
    """The facts of an offer whose rule has these lines, of a customer with one order and a view."""
    world = World(make_book({"id": "r", "on": "cart.item_added", "when": list(lines)}))
    world.product("a", 500)
    if attributes:
        world.send("customer.profile_set", attributes=attributes)
    world.buy("o1", ["x", "y"], NOON, total=1200)
    world.send("product.viewed", NOON + MINUTE, sku="a")
    world.add("a", NOON + 2 * MINUTE)
    assert len(world.out.offers) == 1, lines
    first, *rest = evidence(world)
    assert first == {"fact": "cart.item_added", "value": "k", "event_id": f"e{world._count}"}
    return {each["fact"]: each["value"] for each in rest if not each["fact"].endswith(".weight")}


def test_each_offer_names_the_event_that_caused_it() -> None:
    world = World(make_book({"id": "r", "on": "cart.item_added"}))
    world.add("a", NOON)
    world.add("b", NOON + MINUTE)
    assert [evidence(world, place)[0]["event_id"] for place in (0, 1)] == ["e2", "e3"]


def test_an_offer_of_a_timer_names_the_event_that_armed_it_last() -> None:
    world = World(make_book({"id": "r", "on": "cart.item_added", "after_silence": "60m"}))
    world.add("a", NOON)
    world.add("a", NOON + MINUTE)
    world.pass_to(NOON + DAY)
    assert evidence(world)[0] == {"fact": "cart.item_added", "value": "k", "event_id": "e3"}


def test_facts_are_the_names_of_all_lines_with_their_values_each_once() -> None:
    lines = ("customer.orders == 1", "customer.spend >= 1200 && customer.orders < 2")
    assert shown(*lines) == {"customer.orders": 1, "customer.spend": 1200}


@pytest.mark.parametrize(
    ("line", "facts"),
    [
        ('bought("x")', {'bought("x")': True}),
        (
            'views(event.item.sku, "24h") == 1',
            {'views(event.item.sku, "24h")': 1, "event.item.sku": "a"},
        ),
        ("!has(event.session_id)", {"has(event.session_id)": False}),
        ('customer.attributes.goal == "desk"', {"customer.attributes.goal": "desk"}),
        ("has(customer.attributes.goal)", {"has(customer.attributes.goal)": True}),
        ('customer.skus.exists(s, s == "x")', {"customer.skus": ["x", "y"]}),
        ('cart.items.all(i, i.quantity == 1)', {"cart.items": ["a"]}),
        ('!("camera" in cart.categories)', {"cart.categories": []}),
        ("customer.coupon_share < 0.5", {"customer.coupon_share": 0.0}),
        ('at > timestamp("2026-01-01T00:00:00Z")', {"at": "2026-03-02T03:02:00.000Z"}),
        ("true", {}),
    ],
)  # fmt: skip
def test_calls_stand_with_their_arguments_and_macros_with_their_list(
    line: str, facts: dict[str, Any]
) -> None:
    assert shown(line, goal="desk") == facts


def test_long_texts_lists_and_conditions_are_cut() -> None:
    world = World(make_book({"id": "r", "on": "cart.item_added", "when": "customer.skus != []"}))
    world.buy("o1", [f"s{number:02}" for number in range(12)], NOON)
    world.send("customer.profile_set", attributes={"note": "x" * 300})
    world.add("a", NOON + MINUTE)
    skus = [f"s{number:02}" for number in range(10)]
    assert evidence(world)[1] == {"fact": "customer.skus", "value": [*skus, "… 12 in all"]}
    assert shown('customer.attributes.note != ""', note="x" * 201) == {
        "customer.attributes.note": "x" * 199 + "…"
    }
    many = " && ".join(f'!bought("s{number}")' for number in range(30))
    assert len(shown(many)) == 20


def test_a_timer_shows_the_facts_of_the_moment_at_which_it_fires() -> None:
    rule = {"id": "r", "on": "cart.item_added", "after": "1h", "when": "customer.orders == 0"}
    world = World(make_book(rule))
    world.add("a", NOON)
    world.reload()
    world.pass_to(NOON + DAY)
    assert evidence(world)[1:] == [{"fact": "customer.orders", "value": 0}]
