"""Who is held out is offered nothing, and what would have been offered is recorded and counted."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.unit.harness import DAY, HOUR, MINUTE, NOON, REASON, World, make_book
from triggers.compiler import compile_content
from triggers.customer import Customer
from triggers.ids import share_below

CART = {
    "id": "cart",
    "on": "cart.item_added",
    "pick": {"sku": "extra"},
    "price": {"off": "10%"},
    "channel": "onsite",
    "placement": "cart",
}
ALL = {"share": "100%", "salt": "s"}
NONE = {"share": "0%", "salt": "s"}


def world(*rules: dict[str, Any], **book: Any) -> World:
    one = World(make_book(*rules, **book))
    one.product("extra", 1000)
    return one


def test_who_is_held_out_gets_nothing_and_what_would_have_been_is_recorded() -> None:
    one = world(CART, holdout=ALL)
    one.add("a", NOON)
    assert one.outcomes() == [("cart", "held_out", "held_out")]
    assert one.out.offers == []
    told = msgspec.json.decode(one.out.decisions[0].encode())["data"]
    assert told["would_have"] == {
        "channel": "onsite",
        "placement": "cart",
        "items": [
            {
                "sku": "extra",
                "quantity": 1,
                "list_price": 1000,
                "offer_price": 900,
                "currency": "JPY",
            }
        ],
    }
    assert told["offer_id"] == one.out.decisions[0].offer_id


def test_who_is_not_held_out_sees_no_difference() -> None:
    one, plain = world(CART, holdout=NONE), world(CART)
    one.add("a", NOON)
    plain.add("a", NOON)
    assert one.outcomes() == plain.outcomes() == [("cart", "offered", None)]
    assert "would_have" not in msgspec.json.decode(one.out.decisions[0].encode())["data"]


@pytest.mark.parametrize(("percent", "share"), [("5%", 0.05), ("2.5%", 0.025)])
def test_the_holdout_is_a_digest_of_salt_and_customer(percent: str, share: float) -> None:
    book = make_book(
        {"id": "cart", "on": "cart.item_added"}, holdout={"share": percent, "salt": "q"}
    )
    held = []
    for number in range(400):
        one = World(book)
        one.customer = Customer(f"c{number}")
        one.send("consent.granted", channel="*")
        one.add("a")
        if one.outcomes()[0][1] == "held_out":
            held.append(number)
    assert held == [n for n in range(400) if share_below(share, "q", f"c{n}")]
    assert held


def test_a_rules_own_holdout_draws_by_the_rule_too() -> None:
    rules = [{**CART, "id": name, "placement": name, "holdout": {"share": "50%"}} for name in "xy"]
    book = make_book(*rules, holdout={"share": "0%", "salt": "q"})
    found = set()
    for number in range(60):
        one = World(book)
        one.product("extra", 1000)
        one.customer = Customer(f"c{number}")
        one.send("consent.granted", channel="*")
        one.add("a")
        outcomes = {rule: outcome for rule, outcome, _ in one.outcomes()}
        for rule in "xy":
            held = share_below(0.5, "q", f"c{number}", rule)
            assert outcomes[rule] == ("held_out" if held else "offered")
        found.add((outcomes["x"], outcomes["y"]))
    assert len(found) == 4


def test_a_ghost_counts_toward_the_cooldown() -> None:
    one = world({**CART, "cooldown": "1d"}, holdout=ALL)
    for at in (NOON, NOON + DAY - 1, NOON + DAY):
        one.add("a", at)
    assert [reason for _, _, reason in one.outcomes()] == ["held_out", "cooldown", "held_out"]


def test_a_ghost_counts_toward_limits_fatigue_and_once_per() -> None:
    for rule, code in (
        ({**CART, "limits": [{"max": 1, "in": "1d"}]}, "frequency_cap"),
        ({**CART, "gate": {"fatigue": {"budget": 1, "per": "session"}}}, "fatigue"),
        ({**CART, "once_per": "customer"}, "cooldown"),
    ):
        one = world(rule, holdout=ALL)
        one.add("a", NOON)
        one.add("a", NOON + MINUTE)
        assert [reason for _, _, reason in one.outcomes()] == ["held_out", code]


def test_a_ghost_is_not_withdrawn_and_is_no_offer_made() -> None:
    told = {"id": "told", "on": "purchase.completed", "when": "customer.offers_made_7d == 0"}
    one = world({**CART, "withdraw_on": "purchase.completed"}, {**told, "channel": "onsite"})
    one.book = make_book({**CART, "withdraw_on": "purchase.completed"}, told, holdout=ALL)
    one.add("a", NOON)
    one.buy("o1", ["a"], NOON + MINUTE, cart_id="k")
    assert [(rule, outcome) for rule, outcome, _ in one.outcomes()] == [
        ("cart", "held_out"),
        ("told", "held_out"),
    ]


def test_every_other_reason_comes_before_the_holdout() -> None:
    one = world({**CART, "pick": {"complements_of": "event.item.sku"}}, holdout=ALL)
    one.add("a", NOON)
    assert one.outcomes() == [("cart", "suppressed", "no_candidate")]


def test_a_timer_of_the_held_out_is_kept_back_when_it_fires() -> None:
    one = world({**CART, "after": "1h"}, holdout=ALL)
    one.add("a", NOON)
    one.pass_to(NOON + HOUR)
    assert one.outcomes() == [("cart", "held_out", "held_out")]
    assert one.out.decisions[0].at == NOON + HOUR


def test_a_rule_held_out_leaves_its_place_to_the_next() -> None:
    first = {**CART, "id": "first", "priority": 90, "holdout": {"share": "100%"}}
    one = world(first, {**CART, "id": "second", "priority": 10}, {**CART, "id": "third"})
    one.add("a", NOON)
    assert one.outcomes() == [
        ("first", "held_out", "held_out"),
        ("third", "offered", None),
        ("second", "outranked", "outranked"),
    ]


def test_only_what_would_have_won_its_placement_counts() -> None:
    rules = [{**CART, "id": name, "cooldown": "1d"} for name in ("first", "second")]
    one = world(*rules, holdout=ALL)
    one.add("a", NOON)
    one.add("a", NOON + MINUTE)
    assert [(rule, reason) for rule, _, reason in one.outcomes()] == [
        ("first", "held_out"),
        ("second", "held_out"),
        ("first", "cooldown"),
        ("second", "held_out"),
    ]


def test_limits_are_looked_at_again_among_the_held_out() -> None:
    rules = [{**CART, "id": name, "placement": name} for name in ("one", "two")]
    one = world(*rules, holdout=ALL, limits=[{"max": 1, "in": "1h"}])
    one.add("a", NOON)
    assert [reason for _, _, reason in one.outcomes()] == ["held_out", "frequency_cap"]


def test_ghosts_survive_the_way_through_bytes() -> None:
    one = world({**CART, "cooldown": "1d"}, holdout=ALL)
    one.add("a", NOON)
    one.reload()
    assert [made.ghost for made in one.customer.offers.made] == [True]
    one.add("a", NOON + MINUTE)
    assert one.outcomes()[-1][2] == "cooldown"


@pytest.mark.parametrize("share", ["101%", "5", "-1%", "0.25%"])
def test_a_share_that_is_no_percentage_is_refused(share: str) -> None:
    rule = {"id": "r", "kind": "cross_sell", "on": "cart.item_added", "channel": "email"}
    head = {"name": "b", "timezone": "UTC", "currency": "JPY", "holdout": {"share": share}}
    whole = {**rule, "pick": "none", "reason": REASON}
    found = compile_content({"book": head, "rules": [whole]})
    assert isinstance(found, list)
    assert found[0].path == ("book", "holdout", "share")
