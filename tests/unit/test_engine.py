"""What decides, when, and about what: the engine's semantics, one sentence a test."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.harness import DAY, HOUR, MINUTE, NOON, SECOND, World, make_book
from triggers.decisions import Offer
from triggers.durations import to_ms
from triggers.judgement import Gone

CART = {"id": "cart", "on": "cart.item_added"}
WEEK = {
    "id": "week",
    "kind": "follow_up",
    "on": "purchase.completed",
    "after": "7d",
    "unless": ["purchase.refunded", "purchase.cancelled"],
}
SILENT = {
    "id": "silent",
    "on": "cart.item_added",
    "after_silence": "60m",
    "unless": "purchase.completed",
    "pick": {"same": "cart.items"},
}


def offered(world: World) -> list[Offer]:
    return [offer for offer in world.out.offers if isinstance(offer, Offer)]


# --- moments and timers ---


def test_one_week_after_means_the_same_local_time_seven_days_later() -> None:
    world = World(make_book(WEEK))
    world.buy("o1", ["a"], NOON)
    world.pass_to(NOON + 7 * DAY - 1)
    assert offered(world) == []
    world.pass_to(NOON + 7 * DAY)
    assert [offer.at for offer in offered(world)] == [NOON + 7 * DAY]


def test_calendar_days_keep_the_local_time_over_a_clock_change() -> None:
    start = to_ms("2026-03-05T10:00:00-05:00")
    world = World(make_book(WEEK, timezone="America/New_York"), at=start - HOUR)
    world.buy("o1", ["a"], start)
    world.pass_to(start + 8 * DAY)
    assert [offer.at for offer in offered(world)] == [to_ms("2026-03-12T10:00:00-04:00")]


def test_hours_are_exact_over_a_clock_change() -> None:
    start = to_ms("2026-03-08T00:00:00-05:00")
    book = make_book({**WEEK, "after": "12h"}, timezone="America/New_York")
    world = World(book, at=start - HOUR)
    world.buy("o1", ["a"], start)
    world.pass_to(start + DAY)
    assert [offer.at for offer in offered(world)] == [start + 12 * HOUR]


def test_a_local_time_that_does_not_exist_moves_forward_by_the_gap() -> None:
    start = to_ms("2026-03-01T02:30:00-05:00")
    world = World(make_book(WEEK, timezone="America/New_York"), at=start - HOUR)
    world.buy("o1", ["a"], start)
    world.pass_to(start + 8 * DAY)
    assert [offer.at for offer in offered(world)] == [to_ms("2026-03-08T03:30:00-04:00")]


def test_a_local_time_that_exists_twice_is_the_first() -> None:
    start = to_ms("2026-10-25T01:30:00-04:00")
    world = World(make_book(WEEK, timezone="America/New_York"), at=start - HOUR)
    world.buy("o1", ["a"], start)
    world.pass_to(start + 8 * DAY)
    assert [offer.at for offer in offered(world)] == [to_ms("2026-11-01T01:30:00-04:00")]


def test_a_refund_of_the_same_order_cancels_and_of_another_does_not() -> None:
    world = World(make_book(WEEK))
    world.buy("o1", ["a"], NOON)
    world.buy("o2", ["b"], NOON + MINUTE)
    world.send("purchase.refunded", NOON + DAY, order_id="o1")
    world.pass_to(NOON + 9 * DAY)
    assert [offer.about for offer in offered(world)] == ["o2"]


def test_timers_fire_before_a_later_event_of_the_customer() -> None:
    world = World(make_book(WEEK))
    world.buy("o1", ["a"], NOON)
    out = world.send("purchase.refunded", NOON + 7 * DAY, order_id="o1")
    assert [decision.outcome for decision in out.decisions] == ["offered"]


def test_silence_starts_again_with_each_event_about_the_same_cart() -> None:
    world = World(make_book(SILENT))
    world.product("a")
    world.add("a", NOON)
    world.add("a", NOON + 59 * MINUTE)
    world.pass_to(NOON + 60 * MINUTE)
    assert offered(world) == []
    world.pass_to(NOON + 119 * MINUTE)
    assert [(o.at, o.items[0].quantity) for o in offered(world)] == [(NOON + 119 * MINUTE, 2)]


def test_silence_of_two_carts_is_counted_apart() -> None:
    world = World(make_book(SILENT))
    world.product("a")
    world.add("a", NOON, cart="one")
    world.add("a", NOON + MINUTE, cart="two")
    world.pass_to(NOON + 2 * HOUR)
    assert [offer.about for offer in offered(world)] == ["one", "two"]


def test_a_purchase_without_a_cart_cancels_all_timers_of_the_rule() -> None:
    world = World(make_book(SILENT))
    world.add("a", NOON, cart="one")
    world.add("a", NOON, cart="two")
    world.buy("o1", ["a"], NOON + MINUTE)
    world.pass_to(NOON + 2 * HOUR)
    assert world.outcomes() == []


def test_what_was_bought_is_not_armed_again() -> None:
    world = World(make_book(SILENT))
    world.add("a", NOON)
    world.buy("o1", ["a"], NOON + MINUTE, cart_id="k")
    world.add("a", NOON + 2 * MINUTE)
    world.pass_to(NOON + 2 * HOUR)
    assert world.outcomes() == []


def test_a_checkout_is_cancelled_by_a_purchase_of_its_cart() -> None:
    rule = {
        "id": "left",
        "on": "checkout.started",
        "after": "30m",
        "unless": "purchase.completed",
    }
    world = World(make_book(rule))
    fields = {"total": 500, "currency": "JPY"}
    world.send("checkout.started", NOON, checkout_id="h1", cart_id="k1", **fields)
    world.send("checkout.started", NOON, checkout_id="h2", cart_id="k2", **fields)
    world.buy("o1", ["a"], NOON + MINUTE, cart_id="k1")
    world.pass_to(NOON + HOUR)
    assert [offer.about for offer in offered(world)] == ["h2"]


RENEWAL = {
    "id": "renewal",
    "kind": "follow_up",
    "on": "contract.renewal_set",
    "before": {"date": "event.renews_at", "by": "60d"},
    "unless": "contract.ended",
}


def renew(world: World, date: str, at: int) -> None:
    world.send("contract.renewal_set", at, contract_id="t1", plan="p", renews_at=date)


def test_a_date_that_moves_takes_its_timer_along() -> None:
    world = World(make_book(RENEWAL))
    renew(world, "2026-06-30T12:00:00+09:00", NOON)
    renew(world, "2026-09-30T12:00:00+09:00", NOON + DAY)
    world.pass_to(to_ms("2027-01-01T00:00:00Z"))
    assert [offer.at for offer in offered(world)] == [to_ms("2026-08-01T12:00:00+09:00")]


@pytest.mark.parametrize(("if_past", "count"), [("skip", 0), ("fire", 1)])
def test_a_date_already_inside_is_skipped_or_fires(if_past: str, count: int) -> None:
    before = {"date": "event.renews_at", "by": "60d", "if_past": if_past}
    world = World(make_book({**RENEWAL, "before": before}))
    renew(world, "2026-03-20T12:00:00+09:00", NOON)
    world.pass_to(NOON + DAY)
    assert len(offered(world)) == count


def test_when_is_judged_as_the_timer_fires() -> None:
    world = World(make_book({**WEEK, "when": "customer.tickets_open == 0"}))
    world.buy("o1", ["a"], NOON)
    world.send("support.opened", NOON + DAY, ticket_id="t")
    world.pass_to(NOON + 8 * DAY)
    assert world.outcomes() == []


def test_a_removed_rule_ends_its_timers_with_a_note() -> None:
    world = World(make_book(WEEK))
    world.buy("o1", ["a"], NOON)
    world.book = make_book(CART)
    world.pass_to(NOON + 8 * DAY)
    assert world.outcomes() == [("week", "withdrawn", "rule_removed")]


# --- gates ---


def test_nobody_has_consented_before_saying_so() -> None:
    world = World(make_book(CART), consent=False)
    world.add("a")
    assert world.outcomes() == [("cart", "suppressed", "no_consent")]


def test_a_single_channel_overrides_the_star_and_a_later_star_overrides_it() -> None:
    world = World(make_book(CART))
    world.send("consent.revoked", channel="email")
    world.add("a")
    world.send("consent.granted", channel="*")
    world.add("b")
    assert [outcome for _, outcome, _ in world.outcomes()] == ["suppressed", "offered"]


def test_gates_look_at_the_state_before_the_event() -> None:
    world = World(make_book({"id": "hello", "on": "consent.granted"}), consent=False)
    world.send("consent.granted", channel="*")
    assert world.outcomes() == [("hello", "suppressed", "no_consent")]


def test_a_cooldown_is_over_when_its_span_has_passed() -> None:
    world = World(make_book({**CART, "cooldown": "1d"}))
    world.add("a", NOON)
    world.add("b", NOON + DAY - 1)
    world.add("c", NOON + DAY)
    assert [reason for _, _, reason in world.outcomes()] == [None, "cooldown", None]


def test_a_limit_counts_in_a_window_open_at_its_old_end() -> None:
    world = World(make_book(CART, limits=[{"max": 2, "in": "1h"}]))
    for minute in (0, 10, 59):
        world.add("a", NOON + minute * MINUTE)
    world.add("a", NOON + 60 * MINUTE)
    world.add("a", NOON + 60 * MINUTE + 1)
    assert [r for _, _, r in world.outcomes()] == [
        None,
        None,
        "frequency_cap",
        None,
        "frequency_cap",
    ]


def test_limits_leave_follow_ups_alone_unless_they_name_them() -> None:
    follow = {**CART, "kind": "follow_up"}
    world = World(make_book(follow, limits=[{"max": 0, "in": "1h"}]))
    world.add("a")
    named = World(make_book(follow, limits=[{"max": 0, "in": "1h", "kinds": ["follow_up"]}]))
    named.add("a")
    assert (world.outcomes()[0][2], named.outcomes()[0][2]) == (None, "frequency_cap")


QUIET = {"from": "21:00", "to": "08:00", "channels": ["email"], "then": "defer"}
NIGHT = to_ms("2026-03-02T21:00:00+09:00")
MORNING = to_ms("2026-03-03T08:00:00+09:00")


def test_quiet_hours_put_an_offer_off_to_their_end() -> None:
    world = World(make_book(CART, quiet_hours=QUIET))
    world.add("a", NIGHT)
    assert world.outcomes() == [("cart", "deferred", "quiet_hours")]
    assert world.out.decisions[0].until == MORNING
    world.pass_to(MORNING)
    assert world.outcomes()[1:] == [("cart", "offered", None)]
    assert world.out.decisions[0].offer_id == world.out.decisions[1].offer_id
    assert offered(world)[0].valid_until == MORNING + DAY


def test_a_second_before_and_at_their_end_it_is_not_quiet() -> None:
    world = World(make_book(CART, quiet_hours=QUIET))
    world.add("a", NIGHT - SECOND)
    world.add("b", MORNING)
    assert [outcome for _, outcome, _ in world.outcomes()] == ["offered", "offered"]


def test_quiet_hours_can_suppress() -> None:
    world = World(make_book(CART, quiet_hours={**QUIET, "then": "suppress"}))
    world.add("a", NIGHT)
    assert world.outcomes() == [("cart", "suppressed", "quiet_hours")]


def test_two_offers_of_one_cart_put_off_are_both_answered() -> None:
    world = World(make_book(CART, quiet_hours=QUIET))
    world.add("a", NIGHT)
    world.add("b", NIGHT + MINUTE)
    world.pass_to(MORNING)
    assert [o for _, o, _ in world.outcomes()] == ["deferred", "deferred", "offered", "offered"]


def test_what_was_put_off_too_long_is_stale() -> None:
    world = World(make_book({**CART, "lateness": {"skip_after": "2h"}}, quiet_hours=QUIET))
    world.add("a", NIGHT)
    world.pass_to(MORNING)
    assert world.outcomes()[1:] == [("cart", "suppressed", "stale")]


COMPLEMENT = {**CART, "pick": {"complements_of": "event.item.sku"}}


def test_the_best_complement_wins_and_equal_ones_by_sku() -> None:
    world = World(make_book(COMPLEMENT))
    for sku, weight in (("z", 0.4), ("y", 0.9), ("x", 0.9)):
        world.product(sku)
        world.complement("a", sku, weight)
    world.add("a")
    assert [item.sku for item in offered(world)[0].items] == ["x"]


def test_owned_and_carted_and_sold_out_items_are_passed_over() -> None:
    world = World(make_book(COMPLEMENT))
    for sku, weight in (("owned", 0.9), ("carted", 0.8), ("empty", 0.7), ("left", 0.6)):
        world.product(sku, stock=0 if sku == "empty" else 5)
        world.complement("a", sku, weight)
    world.buy("o1", ["owned"])
    world.out.decisions.clear()
    world.add("carted")
    world.add("a")
    assert [item.sku for item in offered(world)[-1].items] == ["left"]


def test_the_code_is_what_removed_the_best_ranked_one() -> None:
    world = World(make_book(COMPLEMENT))
    for sku, weight in (("empty", 0.9), ("owned", 0.8)):
        world.product(sku, stock=0 if sku == "empty" else 5)
        world.complement("a", sku, weight)
    world.buy("o1", ["owned"])
    world.add("a")
    assert world.outcomes() == [("cart", "suppressed", "out_of_stock")]


def test_a_wholly_refunded_item_is_owned_no_more() -> None:
    world = World(make_book(COMPLEMENT))
    world.product("b")
    world.complement("a", "b")
    world.buy("o1", ["b"])
    world.send("purchase.refunded", order_id="o1")
    world.add("a")
    assert world.outcomes() == [("cart", "offered", None)]


def test_no_candidate_only_when_the_pick_was_empty() -> None:
    world = World(make_book(COMPLEMENT))
    world.add("a")
    assert world.outcomes() == [("cart", "suppressed", "no_candidate")]


GAP = {
    "id": "gap",
    "on": "checkout.payment_reached",
    "pick": {"closes_gap_to": 5000, "from": "complements"},
}


@pytest.mark.parametrize(("total", "sku"), [(4999, "cheap"), (4700, "cheap"), (4699, "dear")])
def test_the_cheapest_complement_that_closes_the_gap_is_offered(total: int, sku: str) -> None:
    world = World(make_book(GAP))
    world.product("cheap", 300)
    world.product("dear", 900)
    world.complement("a", "cheap", 0.1)
    world.complement("a", "dear", 0.9)
    world.add("a")
    fields: dict[str, Any] = {"checkout_id": "h", "cart_id": "k", "currency": "JPY"}
    world.send("checkout.payment_reached", total=total, **fields)
    assert [item.sku for item in offered(world)[0].items] == [sku]


def test_no_gap_is_no_candidate() -> None:
    world = World(make_book(GAP))
    world.product("cheap", 300)
    world.complement("a", "cheap")
    world.add("a")
    fields: dict[str, Any] = {"checkout_id": "h", "cart_id": "k", "currency": "JPY"}
    world.send("checkout.payment_reached", total=5000, **fields)
    assert world.outcomes() == [("gap", "suppressed", "no_candidate")]


def test_a_percentage_off_is_rounded_half_up_once() -> None:
    rule = {**CART, "pick": {"sku": "b"}, "price": {"off": "4%"}}
    for price, expected in ((3880, 3725), (12, 12), (13, 12), (37, 36), (38, 36)):
        world = World(make_book(rule))
        world.product("b", price)
        world.add("a")
        assert offered(world)[0].items[0].offer_price == expected, price


# --- arbitration, once, withdrawal ---


def test_of_one_placement_the_highest_priority_wins_and_the_rest_are_outranked() -> None:
    rules = [
        {**CART, "id": name, "placement": "cart", "priority": priority}
        for name, priority in (("low", 10), ("high", 90), ("also", 90))
    ]
    world = World(make_book(*rules))
    world.add("a")
    assert world.outcomes() == [
        ("also", "offered", None),
        ("high", "outranked", "outranked"),
        ("low", "outranked", "outranked"),
    ]


def test_limits_are_looked_at_again_among_winners() -> None:
    rules = [{**CART, "id": name} for name in ("one", "two")]
    world = World(make_book(*rules, limits=[{"max": 1, "in": "1h"}]))
    world.add("a")
    assert world.outcomes() == [("one", "offered", None), ("two", "suppressed", "frequency_cap")]


def test_once_per_customer_is_used_up_by_an_offer_only() -> None:
    world = World(make_book({**CART, "once_per": "customer"}), consent=False)
    world.add("a")
    world.send("consent.granted", channel="*")
    world.add("b")
    world.add("c")
    assert [r for _, _, r in world.outcomes()] == ["no_consent", None, "cooldown"]


def test_a_purchase_withdraws_what_was_offered_for_its_cart() -> None:
    world = World(make_book({**CART, "withdraw_on": "purchase.completed", "valid_for": "30m"}))
    world.add("a", NOON)
    world.buy("o1", ["a"], NOON + 30 * MINUTE, cart_id="k")
    assert world.outcomes()[1:] == [("cart", "withdrawn", "purchase.completed")]
    world.buy("o2", ["a"], NOON + 31 * MINUTE, cart_id="k")
    assert len(world.outcomes()) == 2


def test_an_offer_that_ran_out_is_not_withdrawn() -> None:
    world = World(make_book({**CART, "withdraw_on": "purchase.completed", "valid_for": "30m"}))
    world.add("a", NOON)
    world.buy("o1", ["a"], NOON + 30 * MINUTE + 1, cart_id="k")
    assert len(world.outcomes()) == 1


# --- repeats, erasure, facts ---


def cart_fields() -> dict[str, Any]:
    item = {"sku": "a", "quantity": 1, "unit_price": 500}
    return {"cart_id": "k", "item": item, "subtotal": 500, "currency": "JPY"}


def test_a_repeat_is_dropped_and_another_body_is_a_conflict() -> None:
    world = World(make_book(CART))
    world.resend("same", "cart.item_added", NOON, checksum=1, **cart_fields())
    again = world.resend("same", "cart.item_added", NOON + 1, checksum=1, **cart_fields())
    other = world.resend("same", "cart.item_added", NOON + 2, checksum=2, **cart_fields())
    assert (again.notes, again.conflict, other.conflict) == ({"repeated": 1}, False, True)
    assert len(world.outcomes()) == 1


def test_repeats_are_known_for_72_hours() -> None:
    world = World(make_book(CART))
    world.resend("same", "cart.item_added", NOON, **cart_fields())
    inside = world.resend("same", "cart.item_added", NOON + 72 * HOUR - 1, **cart_fields())
    after = world.resend("same", "cart.item_added", NOON + 72 * HOUR, **cart_fields())
    assert (inside.notes.get("repeated"), after.notes.get("repeated")) == (1, None)


def test_the_last_256_events_are_known() -> None:
    world = World(make_book(CART))
    for number in range(257):
        world.resend(f"n{number}", "cart.item_added", NOON + number, **cart_fields())
    old = world.resend("n1", "cart.item_added", NOON + 300, **cart_fields())
    older = world.resend("n0", "cart.item_added", NOON + 301, **cart_fields())
    assert (old.notes.get("repeated"), older.notes.get("repeated")) == (1, None)


@pytest.mark.parametrize("farewell", ["customer.erase_requested", "customer.objected"])
def test_who_is_gone_gets_nothing_until_a_new_consent(farewell: str) -> None:
    world = World(make_book(CART, WEEK))
    world.buy("o1", ["a"], NOON)
    world.send(farewell, NOON + HOUR)
    world.add("a", NOON + 2 * HOUR)
    world.pass_to(NOON + 9 * DAY)
    assert world.outcomes() == []
    assert world.customer.owned == {}
    world.send("consent.granted", channel="*")
    world.add("b")
    assert world.outcomes() == [("cart", "offered", None)]


@pytest.mark.parametrize(
    ("first", "again", "why"),
    [
        ("customer.erase_requested", "customer.erase_requested", "erased"),
        ("customer.erase_requested", "customer.objected", "erased"),
        ("customer.objected", "customer.erase_requested", "erased"),
        ("customer.objected", "customer.objected", "objected"),
    ],
)
def test_who_is_gone_and_asks_once_more_is_answered_once_more(
    first: str, again: str, why: str
) -> None:
    world = World(make_book(CART))
    world.send(first, NOON)
    assert world.send(again, NOON + HOUR).gone == [Gone("c1", why, NOON + HOUR)]
    assert (world.customer.now.gone, world.customer.now.at) == (why, NOON + HOUR)
    assert set(dict(world.customer.take_changes()).values()) == {b""}


def test_orders_count_until_they_are_wholly_given_back() -> None:
    world = World(make_book(CART))
    for number, total in enumerate((1000, 2500, 400)):
        world.buy(f"o{number}", ["a"], total=total)
    world.send("purchase.refunded", order_id="o1", total=500)
    now = world.customer.now
    assert (now.orders, now.spend) == (3, 3400)
    world.send("purchase.refunded", order_id="o1", total=2000)
    assert (now.orders, now.spend) == (2, 1400)
    world.send("purchase.cancelled", order_id="o1")
    world.send("purchase.refunded", order_id="unknown")
    assert (now.orders, now.spend) == (2, 1400)


# --- documents ---

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "buy", "refund", "wait", "revoke", "grant", "ticket"]),
        st.integers(0, 4),
        st.integers(1, 30 * HOUR),
    ),
    max_size=25,
)
BUSY = (
    {**COMPLEMENT, "cooldown": "2h", "placement": "cart"},
    {**CART, "id": "rival", "placement": "cart", "once_per": "about"},
    SILENT,
    WEEK,
)


def play(world: World, steps: list[tuple[str, int, int]], reload: bool) -> list[bytes]:
    """Run a log; the records of everything that came of it."""
    for one, other in (("s0", "s1"), ("s1", "s2"), ("s2", "s3")):
        world.product(one)
        world.product(other)
        world.complement(one, other)
    for kind, number, pause in steps:
        at = world.at + pause
        if kind == "add":
            world.add(f"s{number}", at, cart=f"k{number % 2}")
        elif kind == "buy":
            more = {"cart_id": "k0"} if number % 2 else {}
            world.buy(f"o{number}", [f"s{number}"], at, **more)
        elif kind == "refund":
            world.send("purchase.refunded", at, order_id=f"o{number}")
        elif kind == "revoke":
            world.send("consent.revoked", at, channel="email")
        elif kind == "grant":
            world.send("consent.granted", at, channel="*")
        elif kind == "ticket":
            world.send("support.opened", at, ticket_id=f"t{number}")
        else:
            world.pass_to(at)
        if reload:
            world.reload()
    return [r.encode() for r in (*world.out.decisions, *world.out.offers)]


def busy() -> World:
    limits = [{"max": 3, "in": "1d"}]
    return World(make_book(*BUSY, limits=limits, quiet_hours=QUIET))


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_a_document_that_goes_through_bytes_after_each_step_decides_the_same(
    steps: list[tuple[str, int, int]],
) -> None:
    kept, reloaded = busy(), busy()
    assert play(kept, steps, reload=False) == play(reloaded, steps, reload=True)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_caps_cooldowns_and_placements_hold_in_any_log(steps: list[tuple[str, int, int]]) -> None:
    world = busy()
    play(world, steps, reload=False)
    sales = [offer for offer in offered(world) if offer.kind != "follow_up"]
    for offer in sales:
        window = [o for o in sales if offer.at - DAY < o.at <= offer.at]
        assert len(window) <= 3
    cooled = [offer.at for offer in sales if offer.rule == "cart"]
    assert all(later - earlier >= 2 * HOUR for earlier, later in pairwise(cooled))
    placed = [
        (o.trigger.event_id, o.placement) for o in sales if o.placement and not o.trigger.due_ms
    ]
    assert len(placed) == len(set(placed))
    firsts = [d for d in world.out.decisions if d.outcome != "withdrawn"]
    final: dict[str, list[str]] = {}
    for decision in firsts:
        final.setdefault(decision.offer_id, []).append(decision.outcome)
    for outcomes in final.values():
        assert outcomes.count("deferred") <= 1
        assert len([o for o in outcomes if o != "deferred"]) <= 1
