"""What customers answer: outcomes, cool-offs, one step after a refusal, service before sales."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.harness import DAY, HOUR, MINUTE, NOON, REASON, SECOND, World, make_book
from triggers.book import Book
from triggers.compiler import compile_content
from triggers.decisions import Withdrawal
from triggers.rings import Made
from triggers.state import MAX_OFFERS

CART = {"id": "cart", "on": "cart.item_added", "pick": {"sku": "pro"}, "valid_for": "2d"}
TRIAL = {
    "id": "trial",
    "kind": "down_sell",
    "on": "offer.declined",
    "when": 'event.reason == "price"',
    "gate": {"framing": "fit"},
    "pick": {"sku": "trial"},
}


def shop(*rules: dict[str, Any], **book: Any) -> World:
    world = World(make_book(*rules, **book))
    world.product("pro", 10_000)
    world.product("trial", 1_000)
    return world


def offer_id(world: World, place: int = -1) -> str:
    return world.out.offers[place].offer_id


def made_of(world: World) -> list[Made]:
    return world.customer.offers.made


def say(world: World, what: str, at: int | None = None, **more: Any) -> dict[str, int]:
    """Answer an offer (the first one made, unless told) and give what was counted."""
    fields = {"offer_id": offer_id(world, 0), **more}
    return world.send(f"offer.{what}", at, **fields).notes


def fates(world: World) -> list[str]:
    return [made.fate for made in made_of(world)]


# --- one outcome ---


@pytest.mark.parametrize("what", ["accepted", "declined", "complained"])
def test_an_offer_ends_as_its_first_answer_says(what: str) -> None:
    world = shop(CART)
    world.add("a", NOON)
    assert fates(world) == [""]
    assert say(world, what) == {}
    assert fates(world) == [what]
    now = world.customer.now
    assert (now.accepted, now.declined) == (what == "accepted", what == "declined")


@pytest.mark.parametrize("first", ["accepted", "declined", "complained"])
@pytest.mark.parametrize("second", ["accepted", "declined", "complained"])
def test_a_later_answer_is_counted_and_moves_nothing(first: str, second: str) -> None:
    world = shop(CART)
    world.add("a", NOON)
    say(world, first, reason="price")
    now = world.customer.now
    before = (now.accepted, now.declined, now.last_decline_reason)
    name = "feedback_repeated" if first == second else "feedback_contradicts"
    assert say(world, second, reason="spec") == {name: 1}
    assert fates(world) == [first]
    assert (now.accepted, now.declined, now.last_decline_reason) == before


def test_shown_and_clicked_are_no_outcomes_and_are_kept() -> None:
    world = shop(CART)
    world.add("a", NOON)
    say(world, "shown")
    assert (made_of(world)[0].seen, fates(world)) == (1, [""])
    say(world, "clicked")
    say(world, "shown")
    assert (made_of(world)[0].seen, fates(world)) == (2, [""])


def test_an_offer_can_be_accepted_up_to_its_end_and_not_later() -> None:
    for late, fate, count in ((0, "accepted", 1), (1, "expired", 0)):
        world = shop(CART)
        world.add("a", NOON)
        notes = say(world, "accepted", NOON + 2 * DAY + late)
        assert fates(world) == [fate]
        assert world.customer.now.accepted == count
        assert notes == ({"offer_expired": 1, "feedback_late": 1} if late else {})


def test_an_offer_that_runs_out_is_counted_once_with_the_instant_of_its_end() -> None:
    world = shop(CART)
    world.add("a", NOON)
    assert world.add("a", NOON + 2 * DAY).notes == {}
    assert world.add("a", NOON + 2 * DAY + 1).notes == {"offer_expired": 1}
    assert world.add("a", NOON + 2 * DAY + 2).notes == {}
    assert [(m.fate, m.ended_at) for m in made_of(world)[:2]] == [
        ("expired", NOON + 2 * DAY),
        ("", 0),
    ]


def test_an_order_that_names_an_offer_accepts_it() -> None:
    world = shop(CART)
    world.add("a", NOON)
    world.add("a", NOON + MINUTE)
    world.buy("o", ["pro"], NOON + HOUR, offer_ids=[offer_id(world), offer_id(world), "stranger"])
    assert fates(world) == ["", "accepted"]
    assert world.customer.now.accepted == 1


def test_an_order_does_not_accept_what_was_declined() -> None:
    world = shop(CART)
    world.add("a", NOON)
    say(world, "declined")
    out = world.buy("o", ["pro"], NOON + HOUR, offer_ids=[offer_id(world)])
    assert out.notes == {"feedback_contradicts": 1}
    assert (fates(world), world.customer.now.accepted) == (["declined"], 0)


def test_an_accepted_offer_is_not_withdrawn_by_the_order_that_took_it() -> None:
    world = shop({**CART, "withdraw_on": "purchase.completed"})
    world.add("a", NOON)
    world.add("a", NOON + MINUTE)
    world.buy("o", ["pro"], NOON + HOUR, cart_id="k", offer_ids=[offer_id(world)])
    assert fates(world) == ["withdrawn", "accepted"]
    taken = [each for each in world.out.offers if isinstance(each, Withdrawal)]
    assert [each.offer_id for each in taken] == [world.out.decisions[0].offer_id]


def test_feedback_takes_back_what_was_offered_about_the_same_offer() -> None:
    for named, count in ((0, 1), (1, 0)):
        world = shop(CART, {**TRIAL, "withdraw_on": "offer.accepted"})
        world.add("a", NOON)
        world.add("a", NOON + MINUTE)
        ids = [decision.offer_id for decision in world.out.decisions]
        world.send("offer.declined", NOON + HOUR, offer_id=ids[0], reason="price")
        world.send("offer.accepted", NOON + HOUR + SECOND, offer_id=ids[named])
        taken = [each for each in world.out.offers if isinstance(each, Withdrawal)]
        assert len(taken) == count


def test_an_answer_cancels_the_timer_about_its_own_offer_only() -> None:
    reminder = {
        "id": "reminder",
        "kind": "follow_up",
        "on": "offer.shown",
        "after": "1d",
        "unless": ["offer.accepted", "offer.declined"],
    }
    world = shop(CART, reminder)
    world.add("a", NOON)
    world.add("a", NOON + MINUTE)
    ids = [decision.offer_id for decision in world.out.decisions]
    for each in ids:
        world.send("offer.shown", offer_id=each)
    world.send("offer.declined", offer_id=ids[0])
    world.pass_to(NOON + 2 * DAY)
    assert [o.about for o in world.out.offers if o.rule == "reminder"] == [ids[1]]


def test_feedback_on_an_unknown_offer_is_counted_and_heard() -> None:
    world = shop(CART, TRIAL)
    out = world.send("offer.declined", NOON, offer_id="stranger", reason="price")
    assert out.notes == {"feedback_unknown": 1}
    assert [decision.rule for decision in out.decisions] == ["trial"]
    assert world.customer.now.declined == 1


ANSWERS = st.lists(
    st.tuples(
        st.sampled_from(["shown", "clicked", "accepted", "declined", "complained", "cart", "buy"]),
        st.integers(0, 5),
        st.sampled_from([1, MINUTE, HOUR, DAY]),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(ANSWERS)
def test_every_offer_ends_in_one_outcome_and_the_counts_are_those_of_the_outcomes(
    answers: list[tuple[str, int, int]],
) -> None:
    world = shop({**CART, "withdraw_on": "purchase.completed"})
    history: dict[str, list[str]] = {}
    world.add("a", NOON)
    for number, (what, which, later) in enumerate(answers):
        ids = [made.offer_id for made in made_of(world)]
        chosen = ids[which % len(ids)]
        at = world.at + later
        if what == "cart":
            world.add("a", at)
        elif what == "buy":
            world.buy(f"o{number}", ["b"], at, cart_id="k", offer_ids=[chosen])
        else:
            world.send(f"offer.{what}", at, offer_id=chosen)
        world.reload()
        for made in made_of(world):
            known = history.setdefault(made.offer_id, [])
            if made.fate and (not known or known[-1] != made.fate):
                known.append(made.fate)
    assert all(len(outcomes) <= 1 for outcomes in history.values())
    ends = fates(world)
    now = world.customer.now
    assert (now.accepted, now.declined) == (ends.count("accepted"), ends.count("declined"))
    assert len(made_of(world)) <= MAX_OFFERS


# --- after a refusal ---


def test_declined_for_its_price_a_trial_follows_and_for_another_reason_none() -> None:
    for reason, count in (("price", 1), ("timing", 0), ("not_needed", 0)):
        world = shop(CART, TRIAL)
        world.add("a", NOON)
        say(world, "declined", reason=reason)
        assert [d.rule for d in world.out.decisions].count("trial") == count


def test_the_trials_own_refusal_starts_no_other() -> None:
    world = shop(CART, TRIAL, {**TRIAL, "id": "other", "when": 'offer.rule == "trial"'})
    world.add("a", NOON)
    say(world, "declined", reason="price")
    say(world, "declined", offer_id=offer_id(world), reason="price")
    assert fates(world) == ["declined", "declined"]
    assert [d.rule for d in world.out.decisions] == ["cart", "trial"]


def test_a_second_offer_declined_at_first_hand_is_followed_again() -> None:
    world = shop(CART, TRIAL)
    for at in (NOON, NOON + DAY):
        world.add("a", at)
        say(world, "declined", offer_id=offer_id(world), reason="price")
    assert [d.rule for d in world.out.decisions] == ["cart", "trial", "cart", "trial"]


def test_the_same_refusal_told_twice_is_followed_once() -> None:
    world = shop(CART, TRIAL)
    world.add("a", NOON)
    say(world, "declined", reason="price")
    say(world, "declined", reason="price")
    assert [d.rule for d in world.out.decisions] == ["cart", "trial"]


def test_who_took_the_offer_is_not_offered_less_by_a_refusal_that_comes_later() -> None:
    world = shop(CART, TRIAL)
    world.add("a", NOON)
    say(world, "accepted")
    say(world, "declined", reason="price")
    assert [d.rule for d in world.out.decisions] == ["cart"]


def test_a_complaint_is_heard_whatever_came_before() -> None:
    sorry = {"id": "sorry", "kind": "follow_up", "on": "offer.complained"}
    world = shop(CART, sorry)
    world.add("a", NOON)
    say(world, "accepted")
    say(world, "complained")
    assert [d.rule for d in world.out.decisions] == ["cart", "sorry"]


def test_a_refusal_later_than_the_offer_is_answered_once() -> None:
    world = shop(CART, TRIAL)
    world.add("a", NOON)
    say(world, "declined", NOON + 3 * DAY, reason="price")
    say(world, "declined", NOON + 4 * DAY, reason="price")
    assert [d.rule for d in world.out.decisions] == ["cart", "trial"]
    assert (fates(world)[0], world.customer.now.declined) == ("expired", 0)
    assert world.customer.now.last_decline_reason == "price"


def test_a_timer_after_a_refusal_is_not_armed_by_the_refusal_of_its_own_offer() -> None:
    world = shop(CART, {**TRIAL, "after": "1h"})
    world.add("a", NOON)
    say(world, "declined", reason="price")
    world.pass_to(NOON + 2 * HOUR)
    assert [d.rule for d in world.out.decisions] == ["cart", "trial"]
    say(world, "declined", offer_id=offer_id(world), reason="price")
    assert world.customer.now.timers == []


# --- what rules see ---


def test_rules_see_the_offer_that_was_answered() -> None:
    lines = [
        'offer.rule == "cart"',
        'offer.kind == "cross_sell"',
        'offer.skus == ["pro"]',
        'offer.sku == "pro"',
        "offer.price == 10000",
        'offer.channel == "email"',
        "!has(offer.placement)",
        'offer.about == "k"',
        'offer.event == "cart.item_added"',
        "offer.shown && !offer.clicked",
        'offer.outcome == "declined"',
        'offer.decline_reason == "price"',
        "offer.offer_id == event.offer_id",
    ]
    reason = {
        "ja": "{offer.price}円の{offer.sku}の代わりに",
        "en": "Not {offer.sku} at {offer.price}",
    }
    world = shop(CART, {**TRIAL, "when": lines, "reason": reason})
    world.add("a", NOON)
    say(world, "shown")
    say(world, "declined", reason="price")
    offer = world.out.offers[-1]
    assert not isinstance(offer, Withdrawal)
    assert (offer.rule, offer.reason["en"]) == ("trial", "Not pro at 10000")


def test_names_of_an_offer_are_unknown_where_no_event_is_about_one() -> None:
    rule: dict[str, Any] = {"id": "r", "kind": "cross_sell", "on": "cart.viewed"}
    rule |= {"when": ['offer.rule == "x"']}
    head = {"name": "b", "timezone": "UTC", "currency": "JPY"}
    rule |= {"channel": "email", "pick": "none", "reason": REASON}
    found = compile_content({"book": head, "rules": [rule]})
    assert not isinstance(found, Book)
    assert [fault.path for fault in found] == [("rules", 0, "when", 0)]
    assert found[0].message.startswith("unknown name offer.rule")


def test_the_last_reason_is_told_by_kind_and_by_rule() -> None:
    up = {"id": "up", "kind": "up_sell", "on": "cart.viewed", "pick": {"sku": "pro"}}
    up |= {"gate": {"value_realised": "true"}}
    ask = {
        "id": "ask",
        "kind": "follow_up",
        "on": "product.viewed",
        "when": [
            'customer.decline_reason("up_sell") == "price"',
            'customer.decline_reason("cross_sell") == "timing"',
            'customer.decline_reason("cart") == "timing"',
            'customer.decline_reason("down_sell") == ""',
            'customer.last_decline_reason == "price"',
        ],
    }
    world = shop(CART, up, ask)
    world.add("a", NOON)
    world.send("cart.viewed", cart_id="k", subtotal=1, currency="JPY")
    say(world, "declined", reason="timing")
    say(world, "declined", offer_id=offer_id(world), reason="price")
    world.send("product.viewed", sku="a")
    assert world.out.decisions[-1].rule == "ask"


# --- cool-offs ---


def cooled(key: dict[str, Any] | str, reason: str, later: int, **book: Any) -> list[str | None]:
    """Codes of the offers before and after a refusal, for two rules; only the first was refused."""
    twin = {**CART, "id": "twin", "placement": "cart", "on": "cart.viewed"}
    elsewhere = {**twin, "id": "zone", "placement": "top", "on": "product.viewed"}
    rule = {**CART, "placement": "cart"}
    if key:
        rule, twin, elsewhere = ({**each, "cool_off": key} for each in (rule, twin, elsewhere))
    world = shop(rule, twin, elsewhere, **book)
    world.add("a", NOON)
    say(world, "declined", NOON + HOUR, reason=reason)
    world.add("a", NOON + HOUR + later)
    world.send("cart.viewed", world.at, cart_id="k", subtotal=1, currency="JPY")
    world.send("product.viewed", world.at, sku="a")
    return [decision.reason for decision in world.out.decisions]


def test_not_needed_silences_the_rule_for_its_cool_off_to_the_millisecond() -> None:
    assert cooled("30d", "not_needed", 30 * DAY - 1) == [None, "cooldown", None, None]
    assert cooled("30d", "not_needed", 30 * DAY) == [None, None, None, None]


def test_another_reason_silences_nothing_unless_the_rule_names_it() -> None:
    assert cooled("30d", "price", DAY) == [None, None, None, None]
    key = {"for": "30d", "after": ["price", "not_needed"]}
    assert cooled(key, "price", DAY) == [None, "cooldown", None, None]


def test_a_cool_off_reaches_over_a_placement_or_over_all() -> None:
    key = {"for": "30d", "over": "placement"}
    assert cooled(key, "not_needed", DAY) == [None, "cooldown", "cooldown", None]
    key = {"for": "30d", "over": "all"}
    assert cooled(key, "not_needed", DAY) == [None, "cooldown", "cooldown", "cooldown"]


def test_the_books_cool_off_binds_every_rule_that_sells() -> None:
    key = {"for": "30d", "over": "all"}
    assert cooled("", "not_needed", DAY, cool_off=key) == [None, *["cooldown"] * 3]
    assert cooled("", "not_needed", DAY, cool_off="30d") == [None, "cooldown", None, None]


def test_the_books_cool_off_leaves_follow_ups_alone() -> None:
    note = {"id": "note", "kind": "follow_up", "on": "cart.viewed"}
    world = shop(CART, note, cool_off={"for": "30d", "over": "all"})
    world.add("a", NOON)
    say(world, "declined", reason="not_needed")
    world.send("cart.viewed", cart_id="k", subtotal=1, currency="JPY")
    assert world.outcomes()[-1] == ("note", "offered", None)


def test_a_cool_off_outlives_the_offers_that_the_document_remembers() -> None:
    many = {"id": "many", "kind": "follow_up", "on": "cart.viewed"}
    world = shop({**CART, "cool_off": "30d"}, many)
    world.add("a", NOON)
    say(world, "declined", reason="not_needed")
    for _ in range(MAX_OFFERS):
        world.send("cart.viewed", cart_id="k", subtotal=1, currency="JPY")
    assert all(made.rule == "many" for made in made_of(world))
    world.reload()
    world.add("a", NOON + 29 * DAY)
    assert world.outcomes()[-1] == ("cart", "suppressed", "cooldown")


# --- service before sales ---

SERVICE = {
    "id": "service",
    "kind": "follow_up",
    "on": ["offer.accepted", "purchase.completed"],
    "arm_when": "has(event.offer_id) || size(event.offer_ids) > 0",
    "about": "customer",
    "after": "3d",
    "sales_wait": True,
}


@pytest.mark.parametrize("bought", [False, True])
def test_after_a_yes_the_next_sale_waits_for_the_follow_up_three_days_on(bought: bool) -> None:
    world = shop(CART, SERVICE)
    world.add("a", NOON)
    if bought:
        world.buy("o", ["b"], NOON + HOUR, offer_ids=[offer_id(world)])
    else:
        say(world, "accepted", NOON + HOUR)
    due = NOON + HOUR + 3 * DAY
    world.add("a", due - 1)
    world.add("a", due)
    assert world.outcomes() == [
        ("cart", "offered", None),
        ("cart", "suppressed", "cooldown"),
        ("service", "offered", None),
        ("cart", "offered", None),
    ]
    assert [d.at for d in world.out.decisions][2:] == [due, due]


def test_an_order_without_an_offer_of_ours_keeps_no_sale_waiting() -> None:
    world = shop(CART, SERVICE)
    world.buy("o", ["b"], NOON)
    world.add("a", NOON + HOUR)
    assert world.outcomes() == [("cart", "offered", None)]


def test_a_sale_that_answers_the_yes_itself_waits_too_and_a_follow_up_does_not() -> None:
    more = {"id": "more", "on": "offer.accepted", "pick": {"sku": "trial"}}
    thanks = {"id": "thanks", "kind": "follow_up", "on": "offer.accepted"}
    world = shop(CART, SERVICE, more, thanks)
    world.add("a", NOON)
    say(world, "accepted")
    assert world.outcomes()[1:] == [
        ("more", "suppressed", "cooldown"),
        ("thanks", "offered", None),
    ]


def test_conditions_know_that_service_is_due_and_how_long_ago_the_yes_was() -> None:
    late = {"id": "late", "kind": "follow_up", "on": "cart.viewed"}
    late["when"] = "customer.service_due && customer.days_since_accepted == 1"
    world = shop(CART, SERVICE, late)
    world.add("a", NOON)
    say(world, "accepted", NOON)
    for at in (NOON + DAY - 1, NOON + DAY, NOON + 2 * DAY):
        world.send("cart.viewed", at, cart_id="k", subtotal=1, currency="JPY")
    assert [(d.rule, d.at) for d in world.out.decisions[1:]] == [("late", NOON + DAY)]


# --- customers who came in by a smaller offer ---


def test_who_entered_by_a_down_sell_waits_a_cool_off_and_then_gets_one_up_sell() -> None:
    up = {
        "id": "up",
        "kind": "up_sell",
        "on": "product.viewed",
        "when": "!customer.entered_by_downsell || customer.days_since_downsell >= 30",
        "gate": {"value_realised": "customer.csat >= 4.0"},
        "pick": {"sku": "pro"},
        "once_per": "customer",
    }
    world = shop(CART, TRIAL, up)
    world.add("a", NOON)
    say(world, "declined", reason="price")
    say(world, "accepted", NOON + HOUR, offer_id=offer_id(world))
    world.send("support.resolved", NOON + DAY, ticket_id="t", csat=5)
    start = NOON + HOUR
    for at in (start + 30 * DAY - 1, start + 30 * DAY, start + 31 * DAY):
        world.send("product.viewed", at, sku="pro")
    assert [(d.rule, d.outcome, d.at) for d in world.out.decisions if d.rule == "up"] == [
        ("up", "offered", start + 30 * DAY),
        ("up", "suppressed", start + 31 * DAY),
    ]


def test_only_an_accepted_down_sell_says_that_the_customer_entered_by_one() -> None:
    for place, entered in ((0, False), (1, True)):
        world = shop(CART, TRIAL)
        world.add("a", NOON)
        world.add("a", NOON + MINUTE)
        ids = [made.offer_id for made in made_of(world)]
        say(world, "declined", offer_id=ids[0], reason="price")
        chosen = (ids[1], made_of(world)[-1].offer_id)[place]
        say(world, "accepted", offer_id=chosen)
        assert world.customer.now.entered_by_downsell is entered


# --- faults ---


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"cool_off": "soon"}, ("cool_off", "for"), "soon"),
        ({"cool_off": {"for": "1d", "over": "placement"}}, ("cool_off", "over"), "no placement"),
        ({"cool_off": {"for": "1d", "after": "never"}}, ("cool_off", "after"), "not_needed"),
        ({"sales_wait": True}, ("sales_wait",), "a cross_sell"),
        ({"kind": "follow_up", "sales_wait": True}, ("sales_wait",), "give it an `after`"),
        ({"when": 'customer.decline_reason("upsell") == ""'}, ("when", 0), "mean up_sell?"),
    ],
)
def test_faults_name_their_place_and_a_remedy(
    change: dict[str, Any], path: tuple[str | int, ...], words: str
) -> None:
    rule: dict[str, Any] = {"id": "r", "kind": "cross_sell", "on": "cart.viewed"}
    rule["channel"] = "email"
    rule |= {"pick": "none", "reason": REASON, **change}
    head = {"name": "b", "timezone": "UTC", "currency": "JPY"}
    found = compile_content({"book": head, "rules": [rule]})
    assert not isinstance(found, Book)
    fault = found[0]
    assert fault.path[2 : 2 + len(path)] == path
    assert words in fault.message


def test_a_misspelt_event_is_one_fault_and_the_names_of_its_offer_are_none() -> None:
    rule: dict[str, Any] = {"id": "r", "kind": "follow_up", "on": "offer.decline"}
    rule |= {"when": 'offer.rule == "x"'}
    rule |= {"channel": "email", "pick": "none", "reason": REASON}
    head = {"name": "b", "timezone": "UTC", "currency": "JPY"}
    found = compile_content({"book": head, "rules": [rule]})
    assert not isinstance(found, Book)
    assert [fault.message for fault in found] == [
        "unknown event type offer.decline; did you mean offer.declined?"
    ]
