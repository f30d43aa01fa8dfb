"""Moments of selling told as rules, through the whole engine, each with its near miss."""

from __future__ import annotations

from itertools import product
from typing import Any

import msgspec
import pytest

from tests.unit.harness import DAY, HOUR, MINUTE, NOON, REASON, SECOND, World, make_book
from triggers.book import Book
from triggers.compiler import compile_content
from triggers.decisions import Offer
from triggers.durations import to_text

TIERS = {"basic": 10_000, "standard": 12_000, "pro": 15_000}


def plans(*rules: dict[str, Any], **book: Any) -> World:
    """A customer before a ladder of three plans, each 20 to 30 % over the one below."""
    world = World(make_book(*rules, **book))
    for step, (name, price) in enumerate(TIERS.items(), start=1):
        benefit = {"ja": f"{name}の利点", "en": f"What {name} does"}
        world.product(name, price, ladder={"name": "plan", "step": step}, benefit=benefit)
    world.product("helper", 900)
    return world


def leave(world: World, plan: str, at: int | None = None, **more: Any) -> None:
    fields = {"plan": plan, "price": TIERS[plan], "currency": "JPY", **more}
    world.send("checkout.plan_left", at, **fields)


def select(world: World, plan: str, at: int | None = None) -> None:
    world.send("checkout.plan_selected", at, plan=plan, price=TIERS[plan], currency="JPY")


def buy(world: World, sku: str, at: int) -> None:
    world.buy(f"o{at}", [sku], at, total=TIERS.get(sku, 900))


def offered(world: World) -> list[Offer]:
    return [offer for offer in world.out.offers if isinstance(offer, Offer)]


# --- a plan that was too dear: the next lower one, half an hour later (A7) ---

LOWER = {
    "id": "lower",
    "kind": "down_sell",
    "on": "checkout.plan_left",
    "after_silence": "30m",
    "unless": "purchase.completed",
    "arm_when": 'event.reason in ["price", "spec"]',
    "pick": {"tier_down_from": "event.plan"},
    "gate": {"framing": "fit"},
}


def test_a_plan_left_for_its_price_is_followed_by_the_next_lower_after_half_an_hour() -> None:
    world = plans(LOWER)
    select(world, "pro", NOON)
    leave(world, "pro", NOON + MINUTE, reason="price")
    world.pass_to(NOON + 31 * MINUTE - 1)
    assert offered(world) == []
    world.pass_to(NOON + 31 * MINUTE)
    assert [(o.at, o.items[0].sku) for o in offered(world)] == [(NOON + 31 * MINUTE, "standard")]


def test_who_buys_the_plan_within_the_half_hour_is_offered_nothing_lower() -> None:
    world = plans(LOWER)
    leave(world, "pro", NOON, reason="price")
    buy(world, "pro", NOON + 29 * MINUTE)
    world.pass_to(NOON + DAY)
    assert world.outcomes() == []


def test_the_purchase_of_something_else_leaves_the_lower_plan_to_come() -> None:
    world = plans(LOWER)
    leave(world, "pro", NOON, reason="price")
    buy(world, "helper", NOON + 29 * MINUTE)
    world.pass_to(NOON + DAY)
    assert [offer.rule for offer in offered(world)] == ["lower"]


def test_a_plan_left_for_another_reason_and_the_lowest_plan_are_followed_by_none() -> None:
    for plan, reason in (("pro", "other"), ("basic", "price")):
        world = plans(LOWER)
        leave(world, plan, NOON, reason=reason)
        world.pass_to(NOON + DAY)
        assert offered(world) == []


# --- what fits the moment: hesitation first, then value, then a need (A11) ---

TABLE = (
    {
        "id": "down",
        "kind": "down_sell",
        "on": ["checkout.plan_left", "checkout.plan_selected"],
        "pick": {"tier_down_from": "event.plan"},
        "gate": {"framing": "fit"},
        "priority": 90,
        "placement": "plan",
    },
    {
        "id": "up",
        "kind": "up_sell",
        "on": ["checkout.plan_left", "checkout.plan_selected"],
        "pick": {"tier_up_from": "event.plan"},
        "gate": {"value_realised": 'customer.days_over("seats", 0.8, "7d") >= 1'},
        "when": 'customer.days_over("seats", 0.8, "7d") >= 1',
        "message": {"benefit": "catalog"},
        "priority": 60,
        "placement": "plan",
    },
    {
        "id": "cross",
        "kind": "cross_sell",
        "on": ["checkout.plan_left", "checkout.plan_selected"],
        "pick": {"sku": "helper"},
        "when": '"leads" in customer.problems',
        "priority": 40,
        "placement": "plan",
    },
)
#: (hesitates, wants more, has a need beside it) -> the one rule that offers.
OUTCOMES = {
    (False, False, False): None,
    (False, False, True): "cross",
    (False, True, False): "up",
    (False, True, True): "up",
    (True, False, False): "down",
    (True, False, True): "down",
    (True, True, False): "down",
    (True, True, True): "down",
}


@pytest.mark.parametrize(
    ("hesitates", "wants_more", "has_need"), list(product([False, True], repeat=3))
)
def test_all_eight_moments_have_one_outcome_and_hesitation_wins(
    hesitates: bool, wants_more: bool, has_need: bool
) -> None:
    world = plans(*TABLE)
    if wants_more:
        world.send("usage.recorded", NOON - HOUR, metric="seats", value=8.0, quota=10.0)
    if has_need:
        world.send("problem.reported", NOON - HOUR + SECOND, tag="leads")
    (leave if hesitates else select)(world, "standard", NOON)
    expected = OUTCOMES[hesitates, wants_more, has_need]
    assert [offer.rule for offer in offered(world)] == ([] if expected is None else [expected])
    losers = [rule for rule, outcome, _ in world.outcomes() if outcome == "outranked"]
    answered = [("down", hesitates), ("up", wants_more), ("cross", has_need)]
    assert losers == [rule for rule, holds in answered if holds and rule != expected]


def test_a_reading_just_under_the_share_is_no_wish_for_more() -> None:
    world = plans(*TABLE)
    world.send("usage.recorded", NOON - HOUR, metric="seats", value=7.9, quota=10.0)
    select(world, "standard", NOON)
    assert world.outcomes() == []


# --- now, later or never (A17) ---


def test_what_is_put_off_is_decided_anew_at_its_instant_and_not_before() -> None:
    quiet = {"from": "12:00", "to": "14:00", "channels": ["email"]}
    rule = {"id": "r", "on": "cart.item_added", "when": "customer.tickets_open == 0"}
    for opened, expected in ((False, ["deferred", "offered"]), (True, ["deferred"])):
        world = World(make_book(rule, quiet_hours=quiet))
        world.add("a", NOON)
        assert world.out.decisions[0].until == NOON + 2 * HOUR
        if opened:
            world.send("support.opened", NOON + HOUR, ticket_id="t")
        world.pass_to(NOON + 2 * HOUR - 1)
        assert [d.outcome for d in world.out.decisions] == ["deferred"]
        world.pass_to(NOON + 2 * HOUR)
        assert [d.outcome for d in world.out.decisions] == expected


def test_now_later_and_never_each_carry_their_reason() -> None:
    quiet = {"from": "12:00", "to": "14:00", "channels": ["push"]}
    now = {"id": "now", "on": "cart.item_added"}
    later = {"id": "later", "on": "cart.item_added", "channel": "push"}
    never = {"id": "never", "on": "cart.item_added", "pick": {"sku": "gone"}}
    world = World(make_book(now, later, never, quiet_hours=quiet))
    world.add("a", NOON)
    bodies = [msgspec.json.decode(decision.encode())["data"] for decision in world.out.decisions]
    told = {body["rule"]: (body["outcome"], body["reason"], body.get("until")) for body in bodies}
    assert told == {
        "now": ("offered", None, None),
        "later": ("deferred", "quiet_hours", to_text(NOON + 2 * HOUR)),
        "never": ("suppressed", "no_candidate", None),
    }


# --- relevance and result are said (A16, A18) ---

UP = {
    "id": "up",
    "kind": "up_sell",
    "on": "product.viewed",
    "pick": {"tier_up_from": "event.sku"},
    "gate": {"value_realised": "customer.orders > 0"},
    "when": "customer.orders > 0",
    "channel": "email",
    "reason": REASON,
    "message": {"benefit": "catalog"},
}


def test_an_offer_says_why_what_for_and_on_what_it_rests() -> None:
    world = plans(UP)
    world.buy("o", ["basic"], NOON)
    world.send("product.viewed", NOON + HOUR, sku="basic")
    (offer,) = offered(world)
    body = msgspec.json.decode(offer.encode())["data"]
    assert body["reason"] == REASON
    assert body["message"]["benefit"] == {"ja": "standardの利点", "en": "What standard does"}
    assert body["evidence"][0] == {
        "fact": "product.viewed",
        "value": "basic",
        "event_id": body["trigger"]["event_id"],
    }
    assert {"fact": "customer.orders", "value": 1} in body["evidence"]


@pytest.mark.parametrize("missing", ["reason", "message"])
def test_a_rule_that_does_not_say_so_is_refused(missing: str) -> None:
    rule = {key: value for key, value in UP.items() if key != missing}
    head = {"name": "b", "timezone": "UTC", "currency": "JPY"}
    found = compile_content({"book": head, "rules": [rule]})
    assert not isinstance(found, Book)
    word = "reason is missing" if missing == "reason" else "benefit"
    assert any(word in fault.message for fault in found)


# --- every offer ends (B10) ---


def test_each_offer_made_ends_in_exactly_one_outcome_or_runs_out() -> None:
    rule = {
        "id": "r",
        "on": "cart.item_added",
        "valid_for": "2h",
        "withdraw_on": "purchase.cancelled",
    }
    world = World(make_book(rule))
    for minute in range(5):
        world.add("a", NOON + minute * MINUTE)
    ids = [offer.offer_id for offer in offered(world)]
    world.send("offer.shown", NOON + HOUR, offer_id=ids[0])
    world.send("offer.accepted", NOON + HOUR, offer_id=ids[0])
    world.send("offer.declined", NOON + HOUR, offer_id=ids[1])
    world.send("offer.complained", NOON + HOUR, offer_id=ids[2])
    # The fourth ends four minutes before the fifth would: one is withdrawn, one has run out.
    world.send("purchase.cancelled", NOON + 2 * HOUR + 3 * MINUTE + 1, order_id="o")
    world.add("a", NOON + 3 * HOUR)
    ends = [made.fate for made in world.customer.offers.made]
    assert ends == ["accepted", "declined", "complained", "expired", "withdrawn", ""]
