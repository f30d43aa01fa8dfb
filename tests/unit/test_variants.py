"""Variants of a rule: split by shares, or by what was accepted; the same draw in every replay."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.harness import HOUR, MINUTE, NOON, REASON, World, make_book
from triggers.book import Book
from triggers.compiler import compile_content
from triggers.customer import Customer
from triggers.decisions import Offer
from triggers.judgement import Step
from triggers.learned import Tally
from triggers.rates import variant_accepted, variant_counts, variant_offered
from triggers.variants import UNIFORMS_MAX, beta

STORY = {"ja": "物語", "en": "a story"}
RULE = {
    "id": "split",
    "on": "cart.item_added",
    "variants": {"story": {"share": "30%", "reason": STORY}, "plain": {"share": "70%"}},
}
LEARN = {**RULE, "learn": True, "variants": {"story": {"reason": STORY}, "plain": {}}}


def ask(book: Book, customer: str, world: World | None = None, at: int = NOON) -> Offer:
    world = world or World(book)
    if world.customer.id != customer:
        world.customer = Customer(customer)
        world.send("consent.granted", at - MINUTE, channel="*")
    (offer,) = world.add("a", at).offers
    assert isinstance(offer, Offer)
    return offer


def split(book: Book, customers: int = 2000) -> Counter[str]:
    world = World(book)
    return Counter(ask(book, f"c{n}", world).variant for n in range(1, customers + 1))


@pytest.mark.covers("B15")
def test_shares_are_met_and_a_customer_keeps_a_variant() -> None:
    book = make_book(RULE)
    found = split(book)
    assert 540 <= found["story"] <= 660  # 600 and three standard deviations of 20.5
    world = World(book)
    assert len({ask(book, "c7", world, NOON + n * HOUR).variant for n in range(20)}) == 1


def test_a_variant_has_its_own_keys_and_the_rules_for_the_rest() -> None:
    rule = {
        **RULE,
        "pick": {"sku": "a"},
        "message": {"for_whom": REASON, "story": REASON},
        "variants": {
            "story": {"share": "50%", "message": {"story": STORY}, "price": {"off": "10%"}},
            "plain": {"share": "50%", "pick": {"sku": "b"}, "valid_for": "1h"},
        },
    }
    book = make_book(rule)
    world = World(book)
    world.product("a", 500)
    world.product("b", 700)
    seen = {}
    for number in range(1, 20):
        offer = ask(book, f"c{number}", world)
        seen[offer.variant] = offer
    story, plain = seen["story"], seen["plain"]
    assert [(i.sku, i.offer_price) for i in story.items] == [("a", 450)]
    assert story.message == {"for_whom": REASON, "story": STORY}
    assert story.valid_until == NOON + 24 * HOUR
    assert [(i.sku, i.offer_price) for i in plain.items] == [("b", 700)]
    assert plain.message["story"] == REASON
    assert plain.valid_until == NOON + HOUR
    assert msgspec.json.decode(story.encode())["data"]["variant"] == "story"


def test_two_rules_split_their_customers_apart() -> None:
    one, other = make_book(RULE), make_book({**RULE, "id": "other"})
    same = sum(ask(one, f"c{n}").variant == ask(other, f"c{n}").variant for n in range(1, 301))
    assert 140 <= same <= 210  # 0.3^2 + 0.7^2 of 300 is 174


def counts(view_at: int, **given: tuple[int, int]) -> Any:
    world = World(make_book(LEARN))
    tally = Tally()
    for variant, (offered, accepted) in given.items():
        facts = [variant_offered("split", variant, view_at)] * offered
        facts += [variant_accepted("split", variant, view_at)] * accepted
        tally.share(world.catalog.learned, 0, facts)
    return world


def test_learning_prefers_what_is_accepted_and_still_tries_the_other() -> None:
    world = counts(NOON, story=(200, 40), plain=(200, 10))
    found = Counter(ask(world.book, f"c{n}", world).variant for n in range(1, 301))
    assert found["story"] >= 295
    world = counts(NOON, story=(20, 3), plain=(20, 1))
    found = Counter(ask(world.book, f"c{n}", world).variant for n in range(1, 301))
    assert 30 <= found["plain"] <= 120


def test_without_counts_learning_tries_all_alike() -> None:
    assert 900 <= split(make_book(LEARN))["story"] <= 1100


def test_the_draw_is_the_same_in_every_replay() -> None:
    world, again = (counts(NOON, story=(20, 3), plain=(20, 2)) for _ in range(2))
    first = [ask(world.book, f"c{n}", world).variant for n in range(1, 50)]
    assert first == [ask(again.book, f"c{n}", again).variant for n in range(1, 50)]


def test_offers_and_acceptances_of_variants_are_counted_once() -> None:
    book = make_book(LEARN)
    world = World(book)
    tally = Tally()

    def teach(out: Step) -> None:
        tally.share(world.catalog.learned, 0, out.learnt)

    out = world.add("a", NOON)
    teach(out)
    (offer,) = out.offers
    assert isinstance(offer, Offer)
    assert variant_counts(world.catalog.learned, "split", offer.variant, NOON) == (1, 0)
    teach(world.send("offer.accepted", NOON + MINUTE, offer_id=offer.offer_id))
    teach(world.send("offer.accepted", NOON + 2 * MINUTE, offer_id=offer.offer_id))
    teach(world.buy("o", ["a"], NOON + 3 * MINUTE, offer_ids=[offer.offer_id]))
    assert variant_counts(world.catalog.learned, "split", offer.variant, NOON) == (1, 1)


def test_an_order_that_names_the_offer_accepts_its_variant() -> None:
    world = World(make_book(LEARN))
    (offer,) = world.add("a", NOON).offers
    out = world.buy("o", ["a"], NOON + MINUTE, offer_ids=[offer.offer_id])
    assert isinstance(offer, Offer)
    assert variant_accepted("split", offer.variant, NOON + MINUTE) in out.learnt


def test_shares_teach_nothing() -> None:
    world = World(make_book(RULE))
    assert world.add("a", NOON).learnt == []


@given(st.integers(1, 400), st.integers(1, 400))
def test_beta_draws_have_the_mean_of_their_counts(a: int, b: int) -> None:
    draws = [beta(a, b, b"%d" % n) / 2**64 for n in range(60)]
    mean = a / (a + b)
    deviation = (mean * (1 - mean) / (a + b + 1)) ** 0.5
    assert abs(sum(draws) / 60 - mean) < 5 * deviation / 60**0.5


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_any_counts_can_be_drawn_from(a: int, b: int) -> None:
    assert 0 <= beta(a, b, b"x") < 2**64
    assert beta(a, b, b"x") == beta(a, b, b"x")


def test_many_counts_are_scaled_to_as_many_uniforms_as_are_drawn() -> None:
    draws = [beta(70_000, 930_000, b"%d" % n) / 2**64 for n in range(100)]
    assert abs(sum(draws) / 100 - 0.07) < 5 * (0.07 * 0.93 / UNIFORMS_MAX / 100) ** 0.5


@pytest.mark.parametrize(
    ("rule", "path", "message"),
    [
        ({"variants": {"a": {"share": "50%"}}}, ("variants",), "one variant is none"),
        ({"variants": {"a": {"share": "50%"}, "b": {"share": "49.9%"}}}, ("variants",), "99.9%"),
        ({"variants": {"a": {"share": "50%"}, "b": {}}}, ("variants", "b"), "has no share"),
        ({"learn": True}, ("variants", "story", "share"), "is learnt: leave it out"),
        ({"variants": {}, "learn": True}, ("learn",), "no variants to learn about"),
        (
            {"variants": {"a": {"share": "50%", "when": "true"}, "b": {"share": "50%"}}},
            ("variants", "a", "when"),
            "unknown key when",
        ),
        (
            {
                "variants": {
                    "a": {"share": "50%", "reason": {"ja": "{itm.name}", "en": "x"}},
                    "b": {"share": "50%"},
                }
            },
            ("variants", "a", "reason", "ja"),
            "did you mean item.name?",
        ),
    ],
)
def test_faults_of_variants(rule: dict[str, Any], path: tuple[str, ...], message: str) -> None:
    head = {"name": "test", "timezone": "Asia/Tokyo", "currency": "JPY"}
    base = {"kind": "cross_sell", "channel": "email", "reason": REASON, "pick": "none"}
    found = compile_content({"book": head, "rules": [{**base, **RULE, **rule}]})
    assert not isinstance(found, Book)
    assert any(f.path == ("rules", 0, *path) and message in f.message for f in found), found


def test_a_fault_of_the_rule_is_told_once_however_many_variants_there_are() -> None:
    head = {"name": "test", "timezone": "Asia/Tokyo", "currency": "JPY"}
    base = {"kind": "cross_sell", "channel": "email", "reason": REASON, "pick": "none"}
    found = compile_content({"book": head, "rules": [{**base, **RULE, "when": ["tru"]}]})
    assert not isinstance(found, Book)
    assert [fault.path for fault in found] == [("rules", 0, "when", 0)]
