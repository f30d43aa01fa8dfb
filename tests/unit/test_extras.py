"""What an offer carries beside its items: perks, a preselected plan, evidence and its message."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.unit.harness import DAY, HOUR, MINUTE, NOON, SECOND, World, make_book
from tests.unit.test_compiler import compiled, messages
from triggers.book import Book
from triggers.decisions import Offer
from triggers.durations import to_ms, to_text

PERK = {
    "id": "free",
    "on": "checkout.payment_reached",
    "when": "customer.orders == 0",
    "once_per": "customer",
    "pick": {"perk": "free-shipping"},
    "valid_for": "30m",
}


def bodies(world: World) -> list[dict[str, Any]]:
    found = [offer for offer in world.out.offers if isinstance(offer, Offer)]
    return [msgspec.json.decode(offer.encode())["data"] for offer in found]


def pay(world: World, checkout: str, at: int) -> None:
    fields = {"checkout_id": checkout, "cart_id": checkout, "total": 4_000, "currency": "JPY"}
    world.send("checkout.payment_reached", at, **fields)


# --- perks ---


def test_a_perk_ends_with_its_offer_where_the_rule_says_nothing_else() -> None:
    world = World(make_book(PERK))
    pay(world, "c1", NOON)
    (data,) = bodies(world)
    assert data["items"] == []
    assert data["perks"] == [{"perk": "free-shipping", "until": to_text(NOON + 30 * MINUTE)}]


def test_of_two_first_orders_at_once_exactly_one_gets_the_perk() -> None:
    world = World(make_book(PERK))
    pay(world, "c1", NOON)
    pay(world, "c2", NOON + SECOND)
    assert world.outcomes() == [("free", "offered", None), ("free", "suppressed", "cooldown")]


def test_the_second_order_never_gets_the_perk() -> None:
    world = World(make_book({**PERK, "once_per": "always"}))
    world.buy("o1", ["tea"], NOON)
    pay(world, "c1", NOON + HOUR)
    assert world.outcomes() == []


def test_a_first_order_given_back_does_not_bring_the_perk_again() -> None:
    world = World(make_book(PERK))
    pay(world, "c1", NOON)
    world.buy("o1", ["tea"], NOON + MINUTE)
    world.send("purchase.refunded", NOON + HOUR, order_id="o1")
    pay(world, "c2", NOON + DAY)
    assert [outcome for _, outcome, _ in world.outcomes()] == ["offered", "suppressed"]


def test_a_span_of_days_ends_at_the_same_local_time() -> None:
    start = to_ms("2026-03-07T10:00:00-05:00")
    book = make_book(
        {**PERK, "perks": [{"perk": "free-shipping", "for": "2d"}]}, timezone="America/New_York"
    )
    world = World(book, at=start - HOUR)
    pay(world, "c1", start)
    end = to_ms("2026-03-09T10:00:00-04:00")
    assert bodies(world)[0]["perks"] == [{"perk": "free-shipping", "until": to_text(end)}]


EARLY = {
    "id": "early",
    "on": "assessment.completed",
    "pick": "none",
    "perks": [{"perk": "seat-hold", "until": "event.exam_at"}],
    "valid_for": "30d",
}
ACCEPTED = {"id": "seat", "kind": "follow_up", "on": "offer.accepted",
            "when": '"seat-hold" in offer.perks'}  # fmt: skip


@pytest.mark.parametrize(("late", "kept"), [(-SECOND, True), (0, True), (SECOND, False)])
def test_a_perk_is_gone_after_its_deadline(late: int, kept: bool) -> None:
    deadline = NOON + 5 * DAY
    world = World(make_book(EARLY, ACCEPTED))
    world.send("assessment.completed", NOON, weak_areas=["x"], exam_at=to_text(deadline))
    (data,) = bodies(world)
    assert data["perks"] == [{"perk": "seat-hold", "until": to_text(deadline)}]
    world.reload()
    world.send("offer.accepted", deadline + late, offer_id=data["offer_id"])
    assert [rule for rule, _, _ in world.outcomes()] == ["early"] + ["seat"] * kept


@pytest.mark.parametrize(("late", "perks"), [(0, 1), (SECOND, 0)])
def test_an_offer_made_after_the_deadline_is_without_the_perk(late: int, perks: int) -> None:
    deadline = to_text(NOON - late)
    world = World(make_book(EARLY))
    world.send("assessment.completed", NOON, weak_areas=[], exam_at=deadline)
    assert len(bodies(world)[0]["perks"]) == perks


def test_a_perk_without_an_end_is_not_promised() -> None:
    world = World(make_book(EARLY))
    world.send("assessment.completed", NOON, weak_areas=[])
    assert bodies(world)[0]["perks"] == []


def test_a_perk_may_end_at_a_fixed_instant() -> None:
    perk = {"perk": "gift", "until": "2026-03-31T23:59:59+09:00"}
    world = World(make_book({**EARLY, "perks": [perk]}))
    world.send("assessment.completed", NOON, weak_areas=[])
    assert bodies(world)[0]["perks"] == [{"perk": "gift", "until": "2026-03-31T14:59:59.000Z"}]


# --- a preselected plan ---

DEFAULT = {"id": "default", "kind": "follow_up", "on": "checkout.started",
           "default_selection": "standard"}  # fmt: skip


def start(world: World) -> dict[str, Any]:
    fields = {"checkout_id": "c", "cart_id": "k", "total": 1, "currency": "JPY"}
    world.send("checkout.started", NOON, **fields)
    return bodies(world)[0]


def test_a_checkout_names_the_plan_that_the_page_may_preselect() -> None:
    world = World(make_book(DEFAULT))
    world.product("standard", 12_500, ladder={"name": "plans", "step": 2})
    assert start(world)["default_selection"] == "standard"


@pytest.mark.parametrize("fields", [{}, {"ladder": {"name": "plans", "step": 2}, "stock": 0}])
def test_what_is_no_plan_or_sold_out_is_never_preselected(fields: dict[str, Any]) -> None:
    world = World(make_book(DEFAULT))
    world.product("standard", 500, **fields)
    assert "default_selection" not in start(world)


def test_an_offer_of_extras_that_preselects_is_refused() -> None:
    rule = {"pick": {"sku": "insurance"}, "default_selection": "insurance"}
    (message,) = messages(rule)
    assert "paid extras" in message
    assert isinstance(compiled({**rule, "pick": "none"}), Book)


# --- evidence ---

CURVE = {"id": "curve", "kind": "follow_up", "on": "consultation.completed",
         "evidence": [{"series": "mock-exam", "window": "30d", "min": 3}]}  # fmt: skip


def scores(world: World, *values: int) -> None:
    for day, value in enumerate(values):
        world.send("usage.recorded", NOON + day * DAY, metric="mock-exam", value=value)


def test_a_learning_curve_of_three_points_is_shown() -> None:
    world = World(make_book(CURVE))
    scores(world, 52, 61, 70)
    world.send("consultation.completed", NOON + 3 * DAY, concerns=[])
    shown = [each for each in bodies(world)[0]["evidence"] if each["fact"] == "mock-exam"]
    assert shown[0]["value"] == [
        {"date": "2026-03-02", "value": 52.0},
        {"date": "2026-03-03", "value": 61.0},
        {"date": "2026-03-04", "value": 70.0},
    ]


def test_two_points_are_no_curve_and_no_offer() -> None:
    world = World(make_book(CURVE))
    scores(world, 52, 61)
    world.send("consultation.completed", NOON + 3 * DAY, concerns=[])
    assert world.outcomes() == [("curve", "suppressed", "no_candidate")]


def test_points_older_than_the_window_do_not_count() -> None:
    world = World(make_book(CURVE))
    scores(world, 52, 61, 70)
    world.send("consultation.completed", NOON + 29 * DAY, concerns=[])
    world.send("consultation.completed", NOON + 30 * DAY, concerns=[])
    assert [outcome for _, outcome, _ in world.outcomes()] == ["offered", "suppressed"]


# --- the message ---


def test_a_reference_says_what_kind_of_content_it_is() -> None:
    reference = {"type": "how_to", "ja": "手入れ", "en": "Care guide"}
    rule = {"id": "r", "on": "cart.item_added", "message": {"content_ref": reference}}
    world = World(make_book(rule))
    world.add("a")
    assert bodies(world)[0]["message"]["content_ref"] == reference


def test_an_up_sell_without_a_benefit_is_refused() -> None:
    rule = {"kind": "up_sell", "gate": {"value_realised": True}}
    (message,) = messages(rule)
    assert "states its benefit" in message
    (message,) = messages({**rule, "message": {"for_whom": {"ja": "あ", "en": "a"}}})
    assert "states its benefit" in message
    benefit = {"benefit": {"ja": "速い", "en": "faster"}}
    assert isinstance(compiled({**rule, "message": benefit}), Book)


def test_a_cross_sell_without_content_is_a_warning_and_no_fault() -> None:
    book = compiled({})
    assert isinstance(book, Book)
    assert [warning.path for warning in book.warnings] == [("rules", 0)]
    told = {"message": {"content_ref": {"ja": "あ", "en": "a"}}}
    quiet = compiled(told, {"kind": "follow_up"}, {"pick": {"same": "cart.items"}})
    assert isinstance(quiet, Book)
    assert quiet.warnings == ()


# --- faults ---


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"pick": {"sku": "a", "perk": "b"}}, "names 2 kinds of pick"),
        ({"pick": {"closes_gap_to": 1, "from": "complement"}}, "did you mean complements?"),
        ({"pick": {"bundle_with": "event.item.sku", "max": 2}}, "an offer holds one set"),
        ({"pick": {"next_module_after": "customer.deployed", "max": 2}}, "one at a time"),
        ({"pick": {"sku": "a", "leave_out_owned": True}}, "belongs to bundle_with, not to sku"),
        ({"pick": {"sku": "a", "exclude": ["b"]}}, "none to choose from"),
        ({"pick": {"tier_up_from": "customer.skus"}}, "must be of type string"),
        ({"pick": {"bundle_with": "event.item.sku"}, "price": {"off": "4%"}}, "own price"),
        ({"pick": {"perk": "a"}, "price": {"set": 1}}, "a perk has no price"),
        ({"perks": [{"perk": "a", "for": "1d", "until": "event.cart_id"}]}, "ends once"),
        ({"perks": [{"perk": "a", "until": "event.carts"}]}, "unknown name event.carts"),
        ({"evidence": [{"series": "a", "window": "12h"}]}, "whole days"),
        ({"message": {"benefit": "catalog"}}, "none is picked"),
        ({"message": {"benefit": "catalogue"}}, "catalog"),
        ({"when": 'run_out_at("a", "soon") != ""'}, "not a duration"),
    ],
)
def test_what_a_key_cannot_mean_is_said_at_its_place(rule: dict[str, Any], words: str) -> None:
    (message,) = messages(rule)
    assert words in message


def test_an_exception_to_the_bounds_gives_its_reason() -> None:
    (message,) = messages({}, allow={"bundles": ["a"]})
    assert message == "reason is missing"
