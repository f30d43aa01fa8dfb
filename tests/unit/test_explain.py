"""Why each rule would fire now or not: a verdict, the line, and the values behind it."""

from __future__ import annotations

from typing import Any

import pytest

from streams.explain import Subject, explanation
from tests.unit.harness import DAY, HOUR, MINUTE, NOON, World, make_book
from triggers import portrait
from triggers.durations import to_text
from triggers.explain import Answer, Known, explain_rules
from triggers.explaingates import FACTS
from triggers.gates import GATES
from triggers.learned import RULE, Fact, Tally
from triggers.rebuilt import rebuilt_events

CART = {"id": "cart", "on": "cart.item_added", "pick": {"sku": "extra"}}
LATER = {"id": "later", "on": "cart.item_added", "after_silence": "60m"}
LATER |= {"unless": "purchase.completed"}


def shop(*rules: dict[str, Any], consent: bool = True, **book: Any) -> World:
    world = World(make_book(*rules, **book), consent=consent)
    world.product("extra", 1000)
    return world


def ask(world: World, at: int | None = None, **events: Known) -> list[Answer]:
    """The answers now, with the events as the document tells them unless given."""
    known = dict(events) or rebuilt_events(world.customer)
    at = world.at if at is None else at
    return explain_rules(world.customer, at, world.book, world.catalog, known)


def one(world: World, at: int | None = None) -> Answer:
    (answer,) = ask(world, at)
    return answer


def test_a_rule_whose_lines_and_gates_let_it_would_offer_its_items() -> None:
    world = shop(CART)
    world.add("a", NOON)
    answer = one(world)
    assert answer.verdict == "offers"
    assert answer.items == [{"sku": "extra", "quantity": 1, "price": 1000}]
    assert answer.event == {"type": "cart.item_added", "time": to_text(NOON), "rebuilt": True}


@pytest.mark.parametrize("days", [400, 401])
def test_who_will_count_as_new_is_explained_as_new(days: int) -> None:
    world = shop(CART)
    world.add("a", NOON)
    events = rebuilt_events(world.customer)
    at = NOON + days * DAY
    found = explanation(Subject(world.customer, at, world.catalog, events), world.book)
    assert len(found["remarks"]) == (days > 400)
    (answer,) = found["rules"]
    assert (answer["gate"] == "no_consent") == (days > 400)
    assert bool(found["offers"]) == (days <= 400)


def test_the_first_line_that_does_not_hold_is_named_with_its_values() -> None:
    lines = ["event.subtotal >= 500", "customer.orders > 0 || event.subtotal > 600", "false"]
    world = shop({**CART, "when": lines})
    world.add("a", NOON)
    answer = one(world)
    assert answer.verdict == "false"
    assert [line.text for line in answer.lines] == lines[:2]
    assert [line.holds for line in answer.lines] == [True, False]
    assert answer.lines[-1].values == {"customer.orders": 0, "event.subtotal": 500}


def test_without_an_event_a_rule_says_what_it_waits_for() -> None:
    world = shop({**CART, "on": ["stay.checked_in", "cart.item_added"]})
    answer = one(world)
    assert (answer.verdict, answer.event) == ("waits", None)
    assert answer.waits_for == ["stay.checked_in", "cart.item_added"]


def test_a_pending_timer_is_told_and_judged_with_the_event_that_armed_it() -> None:
    world = shop({**LATER, "when": 'event.item.sku == "b"'})
    world.add("a", NOON)
    world.reload()
    answer = one(world, NOON + MINUTE)
    assert (answer.pending, answer.due) == (True, to_text(NOON + HOUR))
    assert answer.verdict == "false"
    assert answer.lines[-1].values == {"event.item.sku": "a"}


def test_every_pending_timer_of_a_rule_has_an_answer_of_its_own() -> None:
    world = shop(LATER)
    world.add("a", NOON, cart="one")
    world.add("a", NOON + MINUTE, cart="two")
    assert [answer.due for answer in ask(world)] == [
        to_text(NOON + HOUR),
        to_text(NOON + HOUR + MINUTE),
    ]


def test_a_rule_that_would_set_a_timer_tells_when_it_is_due() -> None:
    world = shop({**LATER, "id": "r"})
    world.add("a", NOON)
    world.pass_to(NOON + 2 * HOUR)
    world.customer.replace("marks", {})
    answer = one(world, NOON + 3 * HOUR)
    assert (answer.verdict, answer.pending, answer.due) == ("arms", False, to_text(NOON + 4 * HOUR))


def test_a_timer_that_was_used_up_is_held_back_by_its_cooldown() -> None:
    world = shop(LATER)
    world.add("a", NOON)
    world.pass_to(NOON + 2 * HOUR)
    answer = one(world, NOON + 3 * HOUR)
    assert (answer.verdict, answer.gate) == ("held_back", "cooldown")
    assert answer.values == {"once_per": "about", "used up for": "k"}


def test_a_timer_that_an_event_forbids_for_good_says_which() -> None:
    world = shop(LATER)
    world.add("a", NOON, cart="other")
    world.buy("o", ["a"], NOON + MINUTE, cart_id="k")
    event = world.add("a", NOON + 2 * MINUTE)
    assert event.notes == {}
    answers = ask(world)
    assert [answer.pending for answer in answers] == [True]
    world.buy("p", [], cart_id="other")
    answer = one(world)
    assert (answer.verdict, answer.why) == (
        "stopped",
        "one of purchase.completed spoke about k already",
    )


def test_a_date_that_has_passed_sets_no_timer() -> None:
    before = {"date": "event.renews_at", "by": "60d"}
    world = shop({"id": "r", "kind": "follow_up", "on": "contract.started", "before": before})
    world.send("contract.started", NOON, contract_id="t", plan="p", renews_at=to_text(NOON + DAY))
    answer = one(world)
    assert answer.verdict == "stopped"
    assert answer.why == "there is no date to count back from, or that instant has passed"


def test_who_is_held_out_is_told_so_and_what_would_have_been() -> None:
    world = shop(CART, holdout={"share": "100%", "salt": "s"})
    world.add("a", NOON)
    answer = one(world)
    assert (answer.verdict, answer.items[0]["sku"]) == ("held_out", "extra")


def test_a_rule_that_rests_says_so() -> None:
    pause = {"complaints": "1%", "min_offers": 1}
    world = shop({**CART, "pause_over": pause})
    world.add("a", NOON)
    told = [Fact(RULE, "cart", NOON, (1, 1))]
    Tally().share(world.catalog.learned, 0, told)
    assert one(world).verdict == "rests"


# --- gates ---


def held(world: World, at: int | None = None) -> tuple[str | None, dict[str, Any]]:
    answer = one(world, at)
    assert answer.verdict == "held_back", answer
    return answer.gate, answer.values


def test_no_consent_shows_the_consents() -> None:
    world = shop(CART, consent=False)
    world.send("consent.granted", NOON, channel="sms")
    world.add("a")
    assert held(world) == ("no_consent", {"channel": "email", "consents": {"sms": True}})


def test_an_open_ticket_is_named() -> None:
    world = shop(CART)
    world.add("a", NOON)
    world.send("support.opened", ticket_id="t1")
    assert held(world) == ("ticket_open", {"tickets": ["t1"]})


def test_what_the_pick_looked_for_is_told_when_nothing_is_left() -> None:
    world = shop({**CART, "pick": {"complements_of": "event.item.sku"}})
    world.add("a", NOON)
    assert held(world) == ("no_candidate", {"pick": "complements_of", "event.item.sku": "a"})
    world.complement("a", "extra")
    world.buy("o", ["extra"])
    assert held(world)[0] == "already_owned"


def test_a_cooldown_tells_its_end_and_is_over_then() -> None:
    world = shop({**CART, "cooldown": "1d"})
    world.add("a", NOON)
    end = {"last offer": to_text(NOON), "until": to_text(NOON + DAY)}
    assert held(world, NOON + DAY - 1) == ("cooldown", end)
    assert one(world, NOON + DAY).verdict == "offers"


def test_a_full_limit_tells_the_offers_that_fill_it() -> None:
    world = shop(CART, limits=[{"max": 1, "in": "1h"}, {"max": 5, "in": "1d"}])
    world.add("a", NOON)
    gate, values = held(world, NOON + HOUR - 1)
    made = {"rule": "cart", "at": to_text(NOON), "price": 1000}
    assert (gate, values) == (
        "frequency_cap",
        {"limits": [{"max": 1, "in_hours": 1.0, "made": 1, "last": [made]}]},
    )
    assert one(world, NOON + HOUR).verdict == "offers"


def test_quiet_hours_tell_their_end_in_the_customers_zone() -> None:
    quiet = {"from": "21:00", "to": "08:00", "channels": ["email"]}
    world = shop(CART, quiet_hours=quiet)
    world.add("a", NOON)
    gate, values = held(world, NOON + 9 * HOUR)
    assert (gate, values["zone"]) == ("quiet_hours", "Asia/Tokyo")
    assert values["until"] == to_text(NOON + 20 * HOUR)


def test_value_that_is_not_felt_shows_what_the_gate_looked_at() -> None:
    gate = {"value_realised": "customer.orders >= 2"}
    world = shop({**CART, "kind": "up_sell", "gate": gate})
    world.add("a", NOON)
    assert held(world) == (
        "value_not_realised",
        {
            "customer.csat": 0.0,
            "customer.deployed": [],
            "value_realised": "customer.orders >= 2",
            "customer.orders": 0,
        },
    )


def test_too_dear_an_offer_shows_price_basket_and_share() -> None:
    world = shop({**CART, "gate": {"price_ceiling": "20%"}})
    world.add("a", NOON, price=4999)
    assert held(world) == ("price_ceiling", {"price": 1000, "basket": 4999, "share": "20%"})


def test_every_gate_has_its_values() -> None:
    assert list(FACTS) == list(GATES)


# --- what is known ---


def test_explaining_changes_nothing_and_counts_nothing() -> None:
    lines = ["customer.attributes.none == 1"]
    world = shop({**CART, "when": lines}, {**LATER, "cooldown": "1d"})
    world.add("a", NOON)
    world.reload()
    errors = [getattr(line, "errors", 0) for line in world.book.rules["cart"].when]
    ask(world)
    portrait.facts(world.customer, world.at, world.book, world.catalog)
    portrait.state(world.customer)
    assert world.customer.take_changes() == []
    assert [getattr(line, "errors", 0) for line in world.book.rules["cart"].when] == errors


def test_cart_purchase_usage_and_support_of_one_customer_stand_together() -> None:
    world = shop(CART)
    world.buy("o1", ["x"], NOON, total=1200)
    world.add("a", NOON + HOUR)
    world.send("usage.recorded", metric="seats", value=9.0, quota=10.0)
    world.send("support.opened", ticket_id="t")
    world.send("problem.reported", tag="leads")
    world.reload()
    told = portrait.state(world.customer)
    assert [order["order_id"] for order in told["orders"]] == ["o1"]
    assert [cart["cart_id"] for cart in told["carts"]] == ["k"]
    assert told["usage"] == {"seats": {"value": 9.0, "quota": 10.0}}
    assert told["support"]["open"] == ["t"]
    assert told["support"]["problems"][0]["tag"] == "leads"
    facts = portrait.facts(world.customer, world.at, world.book, world.catalog)
    assert (facts["orders"], facts["spend"], facts["tickets_open"]) == (1, 1200, 1)


def test_offers_stand_with_what_became_of_them() -> None:
    world = shop(CART)
    for minute in range(3):
        world.add("a", NOON + minute * MINUTE)
    ids = [decision.offer_id for decision in world.out.decisions]
    world.send("offer.clicked", offer_id=ids[0])
    world.send("offer.declined", offer_id=ids[0], reason="price")
    told = portrait.offers(world.customer, NOON + DAY + MINUTE + 1)
    assert [(each["outcome"], each["reason"], each["seen"]) for each in told] == [
        ("open", "", ""),
        ("expired", "", ""),
        ("declined", "price", "clicked"),
    ]


EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("product.viewed", {"sku": "x"}),
    ("problem.reported", {"tag": "slow"}),
    ("usage.recorded", {"metric": "m", "value": 2.0, "quota": 4.0}),
    ("support.opened", {"ticket_id": "t"}),
    ("deployment.completed", {"product": "x"}),
    (
        "contract.renewal_set",
        {"contract_id": "c", "plan": "p", "renews_at": "2027-01-01T00:00:00Z"},
    ),
    (
        "checkout.payment_reached",
        {"checkout_id": "h", "cart_id": "k", "total": 5, "currency": "JPY"},
    ),
    ("cart.viewed", {"cart_id": "k", "subtotal": 7, "currency": "JPY"}),
]


@pytest.mark.parametrize(("event_type", "fields"), EVENTS, ids=[name for name, _ in EVENTS])
def test_the_document_tells_the_last_event_again(event_type: str, fields: dict[str, Any]) -> None:
    world = shop()
    world.send(event_type, NOON, **fields)
    world.reload()
    data = rebuilt_events(world.customer)[event_type].data
    assert {name: getattr(data, name) for name in fields} == fields


def test_the_last_order_and_the_last_answer_are_told_again() -> None:
    world = shop(CART)
    world.add("a", NOON)
    offer_id = world.out.decisions[0].offer_id
    world.send("offer.declined", offer_id=offer_id, reason="spec")
    world.buy("o", ["x", "y"], total=900, cart_id="k", coupon_total=100)
    world.reload()
    known = rebuilt_events(world.customer)
    order = known["purchase.completed"].data
    assert [item.sku for item in order.items] == ["x", "y"]
    assert (order.order_id, order.total, order.cart_id, order.coupon_total) == ("o", 900, "k", 100)
    answer = known["offer.declined"].data
    assert (answer.offer_id, answer.reason) == (offer_id, "spec")
    assert "offer.accepted" not in known
