"""Duplicates, another order, hostile values: a real store, compared with a model in memory."""

from __future__ import annotations

import json
import random
from typing import Any, NamedTuple

import pytest
import redis

from streams.embedded import EmbeddedStore
from tests.integration.audit import audit
from tests.integration.bench import Bench, Log, Outcome, model, offsets, same
from tests.integration.stores import opened, run
from tests.unit.harness import DAY, HOUR, MINUTE, NOON, SECOND, make_book
from triggers.book import Book
from triggers.customer import Customer

pytestmark = pytest.mark.usefixtures("raw")

PEOPLE = ("ann", "bob", "eve", "{p3}", "\U0001f6d2 \u202e")


def book() -> Book:
    return make_book(
        {"id": "now", "on": "cart.item_added", "cooldown": "10m"},
        {"id": "left", "on": "cart.item_added", "after_silence": "3h",
         "unless": ["purchase.completed"], "channel": "push"},
        {"id": "after", "kind": "follow_up", "on": "purchase.completed", "after": "7d",
         "unless": ["purchase.refunded", "purchase.cancelled"]},
        {"id": "started", "on": "checkout.started", "when": ["customer.orders > 0"],
         "withdraw_on": "purchase.completed"},
    )  # fmt: skip


def cart(number: int) -> dict[str, Any]:
    item = {"sku": f"s{number % 5}", "quantity": 1 + number % 3, "unit_price": 100}
    return {"cart_id": f"k{number % 4}", "item": item, "subtotal": 100, "currency": "JPY"}


def order(number: int) -> dict[str, Any]:
    item = {"sku": f"s{number % 5}", "quantity": 1, "unit_price": 100}
    order = {"order_id": f"o{number}", "items": [item], "total": 100, "currency": "JPY"}
    return {**order, "cart_id": f"k{number % 4}"} if number % 3 else order


Sent = tuple[str, str, dict[str, Any]]  # customer, type, data


def shopping(chance: random.Random, count: int) -> list[Sent]:
    """What some people do: in sensible order, each consenting first."""
    done: list[Sent] = [(name, "consent.granted", {"channel": "*"}) for name in PEOPLE]
    orders: list[tuple[str, str]] = []
    for number in range(count):
        name = chance.choice(PEOPLE)
        roll = chance.random()
        if roll < 0.45:
            done.append((name, "cart.item_added", cart(number)))
        elif roll < 0.55:
            done.append((name, "cart.item_removed", cart(number)))
        elif roll < 0.7:
            data = {"checkout_id": f"h{number}", "cart_id": f"k{number % 4}", "total": 5,
                    "currency": "JPY"}  # fmt: skip
            done.append((name, "checkout.started", data))
        elif roll < 0.85 or not orders:
            orders.append((name, f"o{number}"))
            done.append((name, "purchase.completed", order(number)))
        else:
            buyer, given_back = chance.choice(orders)
            what = chance.choice(("purchase.refunded", "purchase.cancelled"))
            data = {"order_id": given_back}
            if chance.random() < 0.4:
                data["total"] = chance.choice((0, 40, 70, 1_000))
            done.append((buyer, what, data))
    return done


def outcome_of(
    server: EmbeddedStore, used: Book, log: Log, until_ms: int, seed: int, reopen: float = 0.1
) -> Outcome:
    """What the production code makes of the log, in random rounds and through restarts."""
    found: list[Outcome] = []

    async def work() -> None:
        async with opened(server) as store:
            bench = Bench(store, used, log)
            found.append(await bench.run(until_ms, random.Random(seed), reopen))

    run(work())
    return found[0]


class Copy(NamedTuple):
    """One sending of an event: when, which, and whether with another body than the first."""

    at_ms: int
    other: bool
    number: int
    first_ms: int


def copies_of(
    events: list[Sent], chance: random.Random, delays: tuple[int, ...], others: float
) -> list[Copy]:
    """Each event once and up to four times more, by time; where times are equal the first first."""
    copies, at = [], NOON
    for number in range(len(events)):
        at += chance.choice((0, 1, SECOND, 5 * MINUTE, HOUR))
        copies.append(Copy(at, False, number, at))
        copies += [
            Copy(at + chance.choice(delays), chance.random() < others, number, at)
            for _ in range(chance.randrange(5))
        ]
    return sorted(copies)


def log_of(events: list[Sent], copies: list[Copy]) -> Log:
    log = Log(2)
    for copy in copies:
        name, kind, data = events[copy.number]
        # Another body: the event tells another time of its own.
        time_ms = copy.first_ms - copy.other
        log.event(kind, name, copy.at_ms, data, f"e{copy.number}", time_ms)
    return log


@pytest.mark.parametrize("seed", range(4))
def test_s14_each_event_up_to_five_times_counts_once(server: EmbeddedStore, seed: int) -> None:
    chance = random.Random(seed)
    events = shopping(chance, 120)
    delays = (0, 1, MINUTE, 5 * HOUR, 3 * DAY - 1)
    copies = copies_of(events, chance, delays, others=0.15)
    once = {copy.number: copy for copy in reversed(copies)}
    until = copies[-1].at_ms + 30 * DAY
    found = outcome_of(server, book(), log_of(events, copies), until, seed)
    expected = model(book(), log_of(events, sorted(once.values())), until)
    assert len(expected.offers) > 20
    assert expected.refused == {}
    assert found.offers == expected.offers
    assert found.decisions == expected.decisions
    same(found, model(book(), log_of(events, copies), until))
    conflicts = sum(copy.other for copy in copies)
    assert conflicts > 10
    assert list(found.refused.values()) == ["id_conflict"] * conflicts
    assert found.notes["repeated"] == len(copies) - len(once) - conflicts


def test_s14_what_comes_again_after_three_days_makes_no_second_body_of_an_offer(
    server: EmbeddedStore,
) -> None:
    chance = random.Random(5)
    events = shopping(chance, 80)
    copies = copies_of(events, chance, (3 * DAY, 3 * DAY + HOUR, 9 * DAY), others=0)
    until = copies[-1].at_ms + 30 * DAY
    log = log_of(events, copies)
    found = outcome_of(server, book(), log, until, 5)
    same(found, model(book(), log, until))  # and the bench looks at each offer's bodies
    assert found.notes["offer_repeated"] > 10
    assert found.refused == {}


def test_s14_the_dead_letter_of_a_conflict_names_its_record_and_not_the_first(
    server: EmbeddedStore,
) -> None:
    log = Log(2)
    log.event("consent.granted", "ann", NOON, {"channel": "*"}, "c")
    log.event("cart.item_added", "ann", NOON + 1, cart(1), "same")
    place = log.event("cart.item_added", "ann", NOON + 2, cart(2), "same")
    found = outcome_of(server, book(), log, NOON + 3, 0)
    assert found.refused == {place: "id_conflict"}
    assert found.letters[0].value == log.records["cart", place[1]][1].value
    assert [
        json.loads(offer)["data"]["trigger"]["event_id"] for offer in found.offers.values()
    ] == ["same"]


# --- S15: another order ---


def arrived(events: list[Sent], chance: random.Random, within: int) -> list[int]:
    """The order of arrival: each event up to ``within`` places from its own; consents first."""
    places = [(number + chance.uniform(0, within), number) for number in range(len(events))]
    late = [number for _, number in sorted(places) if number >= len(PEOPLE)]
    return [*range(len(PEOPLE)), *late]


@pytest.mark.parametrize("seed", range(4))
def test_s15_events_within_a_hundred_places_count_as_they_come(
    server: EmbeddedStore, seed: int
) -> None:
    chance = random.Random(seed)
    events = shopping(chance, 250)
    log, at = Log(3), NOON
    happened = [at := at + chance.choice((1, SECOND, 10 * MINUTE)) for _ in events]
    at = happened[-1]
    for number in arrived(events, chance, 100):
        name, kind, data = events[number]
        at += chance.choice((0, 1, SECOND, 10 * MINUTE))
        log.event(kind, name, at, data, f"e{number}", happened[number])
    until = at + 30 * DAY
    found = outcome_of(server, book(), log, until, seed)
    same(found, model(book(), log, until))
    assert len(found.offers) > 20
    assert found.refused == {}
    for name in PEOPLE:
        not_negative(found.shop(name))


@pytest.mark.parametrize("seed", range(3))
def test_s15_timestamps_that_go_back_lose_nothing_and_count_nothing_below_zero(
    server: EmbeddedStore, seed: int
) -> None:
    chance = random.Random(seed)
    events = shopping(chance, 250)
    log, at = Log(3), NOON
    happened = [at := at + chance.choice((1, SECOND, 10 * MINUTE)) for _ in events]
    for number in arrived(events, chance, 100):  # producers' timestamps, in another order
        name, kind, data = events[number]
        log.event(kind, name, happened[number], data, f"e{number}")
    found = outcome_of(server, book(), log, at + 30 * DAY, seed)
    ends = {place: len(records) for place, records in log.records.items()}
    audit(offsets(log), ends, found.letters).check()
    assert found.refused == {}
    assert not [event_id for event_id, count in found.copies.items() if count > 1]
    for name in PEOPLE:
        not_negative(found.shop(name))
        assert found.shop(name).now.orders == model(book(), log, at).shop(name).now.orders


def not_negative(shop: Customer) -> None:
    now = shop.now
    counts = (now.orders, now.spend, now.margin_micro, now.coupon_orders)
    assert min(counts) >= 0
    live = [order for order in shop.orders.values() if not order.void]
    assert now.orders == len(live)
    assert now.spend == sum(order.total - order.refunded for order in live)
    assert all(0 <= order.refunded <= order.total for order in shop.orders.values())
    assert all(count > 0 for count in shop.owned.values())
    assert all(line.quantity > 0 for cart in now.carts for line in cart.lines.values())


def test_s15_topics_that_are_fetched_out_of_step_are_applied_by_their_timestamps(
    server: EmbeddedStore,
) -> None:
    chance = random.Random(1)
    events = shopping(chance, 200)
    log, at = Log(3), NOON
    for number, (name, kind, data) in enumerate(events):
        at += chance.choice((0, 1, SECOND, HOUR))
        log.event(kind, name, at, data, f"e{number}")
    expected = model(book(), log, at + 30 * DAY)
    for seed in range(4):  # each with rounds of its own
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
        same(outcome_of(server, book(), log, at + 30 * DAY, seed, reopen=0.2), expected)


def test_s15_a_purchase_before_its_checkout_cancels_what_the_checkout_would_arm(
    server: EmbeddedStore,
) -> None:
    used = make_book(
        {"id": "left", "on": "checkout.started", "after": "3h", "unless": ["purchase.completed"]}
    )
    started = {"checkout_id": "h", "cart_id": "k1", "total": 5, "currency": "JPY"}
    for first in ("purchase.completed", "checkout.started"):
        log = Log(1)
        log.event("consent.granted", "ann", NOON, {"channel": "*"}, "c")
        both = {"purchase.completed": order(1), "checkout.started": started}
        for place, kind in enumerate(sorted(both, key=lambda kind: kind != first)):
            log.event(kind, "ann", NOON + 1 + place, both[kind], kind)
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
        found = outcome_of(server, used, log, NOON + DAY, 0)
        same(found, model(used, log, NOON + DAY))
        assert found.decisions == set()


def test_s15_a_refund_before_its_purchase_is_not_remembered_and_the_purchase_counts(
    server: EmbeddedStore,
) -> None:
    log = Log(1)
    log.event("consent.granted", "ann", NOON, {"channel": "*"}, "c")
    log.event("purchase.refunded", "ann", NOON + 1, {"order_id": "o1"}, "r")
    log.event("purchase.completed", "ann", NOON + 2, order(1), "p")
    found = outcome_of(server, book(), log, NOON + 3, 0)
    assert (found.shop("ann").now.orders, found.shop("ann").now.spend) == (1, 100)
    not_negative(found.shop("ann"))
    log.event("purchase.refunded", "ann", NOON + 4, {"order_id": "o1"}, "r2")
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    found = outcome_of(server, book(), log, NOON + 5, 0)
    assert (found.shop("ann").now.orders, found.shop("ann").now.spend) == (0, 0)
    not_negative(found.shop("ann"))
