"""What customers teach each other: pairs, rates, complaints, and how all of it is merged."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.learning import take_told, told
from tests.unit.crowd import Crowd
from tests.unit.harness import DAY, HOUR, MINUTE, NOON, SECOND, make_book
from triggers.compiler import compile_content
from triggers.decisions import Offer
from triggers.learned import (
    BOUGHT,
    PARTNERS_MAX,
    PLAN,
    RULE,
    STEP_MS,
    UNIT,
    Entry,
    Fact,
    Tally,
    View,
    aged,
    step_of,
)
from triggers.rates import (
    SELECTED_MIN,
    plan_abandonment,
    plan_selections,
    variant_accepted,
    variant_counts,
    variant_offered,
)

WEEK_START = step_of(NOON) * STEP_MS
TOGETHER = {
    "id": "together",
    "on": "product.viewed",
    "pick": {"bought_together_with": "event.sku", "max": 3, "min_support": 2},
}
LEFT = {
    "id": "left",
    "kind": "down_sell",
    "on": "checkout.plan_left",
    "when": ["plan_abandonment(event.plan) > 0.3"],
    "pick": {"sku": "room-only"},
}


def crowd(*rules: dict[str, Any], skus: str = "abcdefgh", **book: Any) -> Crowd:
    world = Crowd(make_book(*rules, **book), at=WEEK_START + DAY)
    for sku in skus:
        world.product(sku)
    return world


def picked(world: Crowd) -> list[list[str]]:
    offers = [offer for offer in world.out.offers if isinstance(offer, Offer)]
    return [[item.sku for item in offer.items] for offer in offers]


def view_by_newcomer(world: Crowd, sku: str, at: int | None = None) -> list[str]:
    """The skus that a customer who owns nothing is offered on viewing ``sku``."""
    world.become(f"new-{len(world.customers)}").send("product.viewed", at, sku=sku)
    return picked(world)[-1] if world.out.decisions[-1].outcome == "offered" else []


def buy_baskets(world: Crowd, baskets: list[str]) -> None:
    for number, basket in enumerate(baskets):
        world.become(f"buyer-{number}").buy(f"o{number}", basket)


# --- bought together ---


def test_top_three_bought_together_equal_an_offline_count_with_ties_by_sku() -> None:
    random = Random(7)
    skus = "abcdefgh"
    weights = [8, 5, 4, 3, 3, 2, 2, 1]
    baskets = [
        "".join(sorted(set(random.choices(skus, weights, k=random.randint(1, 4)))))
        for _ in range(300)
    ]
    world = crowd(TOGETHER)
    buy_baskets(world, baskets)
    singles = {sku: sum(sku in basket for basket in baskets) for sku in skus}
    pairs = {
        pair: sum(set(pair) <= set(basket) for basket in baskets) for pair in combinations(skus, 2)
    }
    for sku in skus:
        lifts = {
            other: Fraction(pairs[min(sku, other), max(sku, other)], singles[other])
            for other in skus
            if other != sku and pairs[min(sku, other), max(sku, other)] >= 2
        }
        expected = sorted(lifts, key=lambda other: (-lifts[other], other))[:3]
        assert view_by_newcomer(world, sku) == expected


def test_equal_lift_is_ordered_by_sku() -> None:
    world = crowd(TOGETHER)
    buy_baskets(world, ["ac", "ac", "ab", "ab"])
    assert view_by_newcomer(world, "a") == ["b", "c"]


def test_a_pair_below_its_support_is_no_candidate_and_one_more_basket_makes_it_one() -> None:
    world = crowd(TOGETHER)
    buy_baskets(world, ["ab"])
    assert view_by_newcomer(world, "a") == []
    assert world.out.decisions[-1].reason == "no_candidate"
    world.become("second").buy("o-second", "ab")
    assert view_by_newcomer(world, "a") == ["b"]


def test_lift_prefers_what_belongs_together_over_what_everybody_buys() -> None:
    world = crowd(TOGETHER)
    # b is in every basket; c comes only with a.
    buy_baskets(world, ["ab", "ab", "abc", "abc", "bd", "bd", "be", "bf"])
    assert view_by_newcomer(world, "a") == ["c", "b"]


def test_the_same_order_twice_counts_once() -> None:
    world = crowd(TOGETHER)
    world.become("x").buy("o1", "ab")
    world.buy("o1", "ab")
    assert view_by_newcomer(world, "a") == []
    world.become("x").buy("o2", "ab")
    assert view_by_newcomer(world, "a") == ["b"]


def test_a_product_that_the_catalogue_does_not_know_teaches_nothing() -> None:
    world = crowd(TOGETHER, skus="ab")
    buy_baskets(world, ["ax", "ax", "ax"])
    assert all("x" not in (key, *entry.partners) for (_, key), entry in world.tally.entries.items())


def test_what_the_customer_owns_is_passed_over() -> None:
    world = crowd(TOGETHER)
    buy_baskets(world, ["ab", "ab", "ac", "ac", "ac"])
    world.become("owner").buy("mine", "c")
    world.send("product.viewed", sku="a")
    assert picked(world) == [["b"]]


def test_several_skus_take_each_partner_at_its_best_and_never_themselves() -> None:
    rule = {
        "id": "cart",
        "on": "cart.item_added",
        "pick": {"bought_together_with": "cart.skus", "max": 5, "min_support": 1},
    }
    world = crowd(rule)
    buy_baskets(world, ["ab", "ac", "bd", "e"])
    world.become("new").add("a")
    world.add("b")
    assert picked(world)[-1] == ["c", "d"]


# --- reviews ---


def test_a_glad_review_raises_the_rank_of_its_pair_and_one_star_does_not() -> None:
    world = crowd(TOGETHER)
    buy_baskets(world, ["ab", "ab", "ac", "ac"])
    world.become("sad").send("product.reviewed", sku="a", stars=1, bought_with=["c"])
    assert view_by_newcomer(world, "a") == ["b", "c"]
    world.become("glad").send("product.reviewed", sku="a", stars=5, bought_with=["c"])
    assert view_by_newcomer(world, "a") == ["c", "b"]


@pytest.mark.parametrize(("stars", "order"), [(3, ["b", "c"]), (4, ["c", "b"])])
def test_four_stars_are_glad_and_three_are_not(stars: int, order: list[str]) -> None:
    world = crowd(TOGETHER)
    buy_baskets(world, ["ab", "ab", "ac", "ac"])
    world.become("r").send("product.reviewed", sku="a", stars=stars, bought_with=["c"])
    assert view_by_newcomer(world, "a") == order


# --- viewed together ---

VIEWED = {
    "id": "viewed",
    "on": "cart.item_added",
    "pick": {"viewed_together_with": "event.item.sku", "max": 3, "min_support": 1},
}


def test_products_viewed_within_half_an_hour_belong_together_and_a_second_later_not() -> None:
    for pause, expected in ((30 * MINUTE - 1, ["b"]), (30 * MINUTE, [])):
        world = crowd(VIEWED)
        start = world.at + HOUR
        world.become("v").send("product.viewed", start, sku="a")
        world.send("product.viewed", start + pause, sku="b")
        world.become("new").add("a", start + HOUR)
        assert (picked(world) or [[]])[-1] == expected


def test_looking_again_in_one_sitting_counts_once() -> None:
    world = crowd({**VIEWED, "pick": {**VIEWED["pick"], "min_support": 2}})  # type: ignore[dict-item]
    world.become("v")
    for sku in "abab":
        world.send("product.viewed", sku=sku)
    assert world.become("new").add("a").decisions[0].reason == "no_candidate"
    world.become("w").send("product.viewed", sku="b")
    world.send("product.viewed", sku="a")
    world.become("newer").add("a")
    assert picked(world) == [["b"]]


# --- plans ---


SUITE: dict[str, Any] = {"plan": "suite", "price": 50_000, "currency": "JPY"}


def leave(world: Crowd, selected: int, left: int) -> None:
    for number in range(selected):
        world.become(f"guest-{number}").send("checkout.plan_selected", **SUITE)
        if number < left:
            world.send("checkout.plan_left", **SUITE)


def hotel() -> Crowd:
    world = crowd(LEFT, skus="")
    world.product("suite", 50_000)
    world.product("room-only", 20_000, stock=1)
    return world


def test_a_plan_that_many_leave_triggers_the_offer_and_at_the_limit_it_does_not() -> None:
    for left, outcomes in ((6, []), (7, [("left", "offered", None)])):
        world = hotel()
        leave(world, 20, left)
        world.out.decisions.clear()
        world.become("guest").send("checkout.plan_left", **SUITE)
        assert world.outcomes() == outcomes  # 6 of 20 is 0.3, which is not over it


def test_a_plan_that_many_leave_is_not_offered_without_a_room() -> None:
    world = hotel()
    leave(world, 20, 10)
    world.product("room-only", 20_000, stock=0)
    world.out.decisions.clear()
    world.become("guest").send("checkout.plan_left", **SUITE)
    assert world.outcomes() == [("left", "suppressed", "out_of_stock")]


def test_a_rate_needs_twenty_selections() -> None:
    view, tally = View(), Tally()
    tally.share(view, 0, [Fact(PLAN, "p", NOON, (SELECTED_MIN - 1, 10))])
    assert plan_abandonment(view, "p", NOON) == 0.0
    tally.share(view, 0, [Fact(PLAN, "p", NOON, (1, 0))])
    assert plan_abandonment(view, "p", NOON) == 10 / SELECTED_MIN
    assert plan_selections(view, "p", NOON) == SELECTED_MIN
    assert plan_selections(view, "q", NOON) == 0


# --- complaints ---

PUSHY = {
    "id": "pushy",
    "on": "cart.item_added",
    "pause_over": {"complaints": "2%", "min_offers": 50},
}


def complain(world: Crowd, offers: int, complaints: int) -> None:
    for number in range(offers):
        world.become(f"c-{number}").add("a")
        offer = world.out.offers[-1].offer_id
        if number < complaints:
            world.send("offer.complained", offer_id=offer)


def test_complaints_over_the_limit_pause_the_rule_and_at_the_limit_they_do_not() -> None:
    for complaints, notes in ((1, {}), (2, {"rule_paused": 1})):
        world = crowd(PUSHY)
        complain(world, 50, complaints)  # 1 of 50 is 2 %, which is not over it
        out = world.become("next").add("a")
        assert out.notes == notes
        assert len(out.decisions) == (0 if notes else 1)


def test_a_rule_is_not_paused_before_its_least_number_of_offers() -> None:
    world = crowd(PUSHY)
    complain(world, 49, 10)
    assert world.become("next").add("a").decisions[0].outcome == "offered"
    assert world.become("after").add("a").notes == {"rule_paused": 1}


def test_complaining_twice_about_one_offer_counts_once_and_an_accepted_offer_counts_too() -> None:
    world = crowd(PUSHY)
    complain(world, 1, 0)
    offer = world.out.offers[-1].offer_id
    world.send("offer.accepted", offer_id=offer)
    for _ in range(3):
        world.reload()
        world.send("offer.complained", offer_id=offer)
    assert world.catalog.learned.counts(RULE, "pushy", world.at) == (UNIT, UNIT)
    world.send("offer.complained", offer_id="0" * 32)  # an offer that nobody made
    assert world.catalog.learned.counts(RULE, "pushy", world.at) == (UNIT, UNIT)


def test_a_paused_rule_stays_silent_when_its_timer_fires() -> None:
    world = crowd(PUSHY, {**PUSHY, "id": "later", "after": "1h"})
    complain(world, 50, 0)
    for entry in (Fact("rule", "later", world.at, (100, 50)),):
        world.tally.share(world.catalog.learned, 0, [entry])
    world.become("next").add("a")
    assert world.pass_to(world.at + HOUR).notes == {"rule_paused": 1}


def test_the_books_pause_binds_every_rule_and_a_rule_may_only_be_stricter() -> None:
    book = make_book({"id": "r", "on": "cart.item_added"}, pause_over={"complaints": "2.5%"})
    assert book.rules["r"].pause is not None
    assert (book.rules["r"].pause.permille, book.rules["r"].pause.offers_min) == (25, 50)
    faults = compile_content(
        {
            "book": {
                "name": "x",
                "timezone": "UTC",
                "currency": "JPY",
                "pause_over": {"complaints": "2%"},
            },
            "rules": [
                {
                    "id": f"r{place}",
                    "kind": "follow_up",
                    "on": "cart.viewed",
                    "channel": "email",
                    "pick": "none",
                    "reason": {"ja": "x", "en": "x"},
                    "pause_over": {"complaints": complaints},
                }
                for place, complaints in enumerate(["2%", "2.1%"])
            ],
        }
    )
    assert isinstance(faults, list)
    assert [(fault.path, fault.message) for fault in faults] == [
        (("rules", 1, "pause_over", "complaints"), "is looser than the book's 2%")
    ]


def test_support_belongs_to_learnt_picks_alone() -> None:
    rule = {
        "id": "r",
        "kind": "cross_sell",
        "on": "product.viewed",
        "channel": "email",
        "pick": {"complements_of": "event.sku", "min_support": 3},
        "reason": {"ja": "x", "en": "x"},
    }
    head = {"name": "x", "timezone": "UTC", "currency": "JPY"}
    faults = compile_content({"book": head, "rules": [rule]})
    assert isinstance(faults, list)
    assert [(fault.path, fault.message) for fault in faults] == [
        (
            ("rules", 0, "pick", "min_support"),
            "belongs to bought_together_with and viewed_together_with, not to complements_of",
        )
    ]


# --- only what is used ---


def test_a_book_that_uses_nothing_learnt_learns_nothing() -> None:
    book = make_book({"id": "plain", "on": "cart.item_added"})
    assert book.learning == {}
    world = crowd({"id": "plain", "on": "cart.item_added"})
    buy_baskets(world, ["ab", "ab"])
    assert world.tally.entries == {}


def test_each_use_switches_on_its_own_events() -> None:
    assert sorted(make_book(TOGETHER).learning) == ["product.reviewed", "purchase.completed"]
    assert sorted(make_book(VIEWED).learning) == ["product.viewed"]
    assert sorted(make_book(LEFT).learning) == ["checkout.plan_left", "checkout.plan_selected"]
    assert sorted(make_book(PUSHY).learning) == ["offer.complained"]


# --- age ---


def test_a_count_is_about_half_after_a_month_and_gone_after_two_years() -> None:
    assert aged(UNIT, 0) == UNIT
    assert aged(UNIT, 4) == UNIT * 217**4 // 256**4
    assert 0.5 < aged(UNIT, 4) / UNIT < 0.53
    assert aged(UNIT, 84) == 0
    assert aged(10**6 * UNIT, 104) == 0


def test_pairs_fall_below_their_support_when_they_age() -> None:
    world = crowd({**TOGETHER, "pick": {**TOGETHER["pick"], "min_support": 1}})  # type: ignore[dict-item]
    buy_baskets(world, ["ab", "ab"])
    last = WEEK_START + 5 * STEP_MS - SECOND  # 2 x 0.8477^4 is 1.03, ^5 is 0.88
    assert view_by_newcomer(world, "a", last) == ["b"]
    assert view_by_newcomer(world, "a", last + SECOND) == []


def test_a_late_fact_has_aged_already() -> None:
    tally = Tally()
    tally.add([Fact(PLAN, "p", NOON, (1, 0)), Fact(PLAN, "p", NOON - STEP_MS, (1, 0))])
    assert tally.entries[PLAN, "p"].counts == [UNIT + aged(UNIT, 1), 0]


# --- many partitions ---

FACTS = st.builds(
    Fact,
    st.just(BOUGHT),
    st.sampled_from(["", *"abcd"]),
    st.integers(0, 6 * STEP_MS).map(lambda ms: NOON + ms),
    st.integers(0, 3).map(lambda n: (n,)),
    st.lists(st.sampled_from("efghij"), max_size=4, unique=True).map(tuple),
)


def ranking(view: View, at: int) -> list[Any]:
    return [(sku, view.partners(BOUGHT, sku, at), view.counts(BOUGHT, sku, at)) for sku in "abcdef"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), FACTS), max_size=60), st.data())
def test_neither_the_split_into_batches_nor_the_order_of_partitions_matters(
    facts: list[tuple[int, Fact]], data: st.DataObject
) -> None:
    by_source = {n: [fact for source, fact in facts if source == n] for n in range(4)}
    one, at = View(), NOON + 7 * STEP_MS
    for source, own in by_source.items():
        Tally().share(one, source, own)
    other = View()
    for source in data.draw(st.permutations(range(4))):
        tally, own = Tally(), by_source[source]
        stored: dict[tuple[str, str], bytes] = {}
        while own:
            size = data.draw(st.integers(1, len(own)))
            for name in tally.missing(own[:size]):
                if name in stored:
                    tally.load(name, stored[name])
            tally.add(own[:size])
            own = own[size:]
            changes = tally.take_changes()
            stored.update(changes)
            for name, packed in changes:  # some are told twice
                other.put(name, source, packed)
            if data.draw(st.booleans()):
                tally = Tally()  # a restart
    assert ranking(one, at) == ranking(other, at)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 500), max_size=300))
def test_partners_are_bounded_and_the_most_frequent_stay(draws: list[int]) -> None:
    tally = Tally()
    for draw in draws:
        tally.add([Fact(BOUGHT, "a", NOON, (1,), (f"s{draw}", "often"))])
        entry = tally.entries[BOUGHT, "a"]
        assert len(entry.partners) <= PARTNERS_MAX
    if draws:
        assert tally.entries[BOUGHT, "a"].partners["often"] == len(draws) * UNIT


def test_rates_add_up_over_partitions() -> None:
    view = View()
    Tally().share(view, 0, [Fact(PLAN, "p", NOON, (30, 3))])
    Tally().share(view, 1, [Fact(PLAN, "p", NOON, (10, 7))])
    assert plan_abandonment(view, "p", NOON) == 10 / 40
    Tally().share(view, 1, [Fact(PLAN, "p", NOON, (20, 7))])  # an absolute value replaces
    assert plan_abandonment(view, "p", NOON) == 10 / 50
    view.put((PLAN, "p"), 1, None)
    assert plan_abandonment(view, "p", NOON) == 3 / 30


def test_counts_of_variants_are_merged_and_whole() -> None:
    view = View()
    offered, accepted = variant_offered("r", "a", NOON), variant_accepted("r", "a", NOON)
    Tally().share(view, 0, [offered, accepted, offered, offered])
    Tally().share(view, 1, [offered, offered])
    assert variant_counts(view, "r", "a", NOON) == (5, 1)
    assert variant_counts(view, "r", "a", NOON + STEP_MS) == (4, 0)  # 4.24 and 0.85
    assert variant_counts(view, "r", "b", NOON) == (0, 0)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode(Entry(1, [1])),  # a plan has two counts
        msgspec.msgpack.encode(Entry(1, [1, -1])),
        msgspec.msgpack.encode(Entry(1, [1, 1], {str(n): 1 for n in range(PARTNERS_MAX + 1)})),
    ],
)
def test_what_is_no_entry_changes_nothing(bad: bytes) -> None:
    view = View()
    Tally().share(view, 0, [Fact(PLAN, "p", NOON, (30, 3))])
    with pytest.raises(msgspec.DecodeError):
        view.put((PLAN, "p"), 0, bad)
    assert plan_selections(view, "p", NOON) == 30


def test_an_entry_is_told_at_most_once_a_minute_and_never_forgotten() -> None:
    tally = Tally()
    fact = Fact(PLAN, "p", NOON, (1, 0))
    tally.add([fact])
    assert [name for name, _ in tally.take_news(NOON)] == [(PLAN, "p")]
    tally.add([fact])
    assert not tally.may_tell(NOON + SECOND - 1)  # it looks once a second
    assert tally.may_tell(NOON + SECOND)
    assert tally.take_news(NOON + MINUTE - SECOND) == []
    assert tally.untold == 1
    (told,) = tally.take_news(NOON + MINUTE)
    assert told[1].counts == [2 * UNIT, 0]
    assert tally.take_news(NOON + 2 * MINUTE) == []


# --- on the wire ---


def test_what_a_partition_tells_comes_back_as_the_same_sums() -> None:
    tally, view = Tally(), View()
    tally.add([Fact(BOUGHT, "a", NOON, (3,), ("b", "c")), Fact(BOUGHT, "", NOON, (3,))])
    for name, entry in tally.take_news(NOON):
        record = told(name, entry, 7)
        assert record.id == f"bought>{name[1]}>7"
        take_told(view, record.key, record.value)
        take_told(view, record.key, record.value)  # twice is once
    assert view.counts(BOUGHT, "a", NOON) == (3 * UNIT,)
    for name, entry in tally.take_news(NOON + MINUTE, everything=True):
        take_told(view, told(name, entry, 7).key, None)
    assert len(view) == 2
    take_told(view, b"bought>a>7", None)
    assert view.counts(BOUGHT, "a", NOON) == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, None),
        (b"bought", None),
        (b"sold>a>7", None),
        (b"bought>a>x", None),
        (b"\xff>a>7", None),
        (b"bought>a>7", b"{}"),
        (b"bought>a>7", b"no json"),
        (b"bought>b>7", b'{"kind":"bought","key":"a","partition":7,"step":1,"counts":[1]}'),
        (b"bought>a>7", b'{"kind":"bought","key":"a","partition":7,"step":1,"counts":[-1]}'),
        (b"bought>a>7", b'{"kind":"bought","key":"a","partition":7,"step":1,"counts":[1,2]}'),
    ],
)
def test_a_record_that_is_none_of_ours_is_refused(key: bytes | None, value: bytes | None) -> None:
    view = View()
    with pytest.raises((ValueError, msgspec.MsgspecError)):
        take_told(view, key, value)
    assert len(view) == 0
