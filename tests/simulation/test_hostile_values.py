"""Whatever the door lets in, the engine takes: it decides, and all of it can be stored and sent."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, NoReturn

import pytest

from streams.outbox import pack, unpack
from streams.results import outgoing
from streams.rulefiles import load_book
from tests.simulation.hostile import Sender, catalog_of
from tests.unit.harness import DAY, World, make_book
from triggers.customer import Customer
from triggers.engine import advance, step
from triggers.events import INT_MAX
from triggers.fields import STORED_MAX
from triggers.judgement import Step
from triggers.learned import Tally

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/rules"))
RUNS = 40


def no_number(name: str) -> NoReturn:
    raise AssertionError(f"{name} left the engine")


def sent(out: Step) -> list[dict[str, Any]]:
    """What a step sends, out of the outbox and as its readers see it."""
    records = unpack(pack(outgoing(out)))
    return [json.loads(record.value, parse_constant=no_number) for record in records]


@pytest.mark.parametrize("rules", EXAMPLES, ids=lambda path: path.parent.name)
def test_s22_whatever_numbers_come_in_every_document_can_be_stored_and_every_offer_sent(
    rules: Path,
) -> None:
    book = load_book(rules)
    applied = 0
    for seed in range(RUNS):
        chance = random.Random(seed)
        catalog, skus = catalog_of(book, rules.parent / "catalog.jsonl", chance)
        sender = Sender(book, chance, skus)
        customer, stored, tally = Customer(sender.customer), dict[str, bytes](), Tally()
        for event, at_ms in sender.events(chance.randrange(1, 60)):
            applied += 1
            out = step(customer, event, at_ms, book, catalog, applied)
            if chance.random() < 0.3:
                advance(customer, at_ms + chance.choice((1_000, 3 * DAY)), book, catalog, out)
            made = sent(out)
            sender.offers += [one["id"] for one in made if one["type"] == "offer.made"]
            for one in made:
                assert abs(one["data"].get("saving", 0)) <= INT_MAX, seed
            tally.share(catalog.learned, 0, out.learnt)
            stored.update(customer.take_changes())
            stored = {letter: packed for letter, packed in stored.items() if packed}
            if chance.random() < 0.3:
                customer = Customer(sender.customer, dict(stored))
            now = customer.now
            counts = (now.orders, now.spend, now.margin_micro, now.coupon_orders, now.accepted)
            assert min(counts) >= 0, seed
            assert all(line.quantity > 0 for cart in now.carts for line in cart.lines.values())
    assert applied > 10 * RUNS


def stored_and_back(world: World) -> Customer:
    return Customer("c1", dict(world.customer.take_changes()))


def test_s22_the_dearest_order_that_the_door_takes_is_stored_and_counted() -> None:
    world = World(make_book({"id": "r", "on": "purchase.completed"}))
    item = {"sku": "a", "quantity": INT_MAX, "unit_price": INT_MAX}
    for number in range(3):
        world.send(
            "purchase.completed", order_id=f"o{number}", items=[item], total=INT_MAX, currency="JPY"
        )
        world.send("cart.item_added", cart_id="k", item=item, subtotal=INT_MAX, currency="JPY")
    now = stored_and_back(world).now
    assert (now.orders, now.spend, now.margin_micro) == (3, INT_MAX, STORED_MAX)
    assert [line.quantity for line in now.carts[0].lines.values()] == [INT_MAX]


def test_s22_what_went_over_its_bound_never_comes_back_below_nothing() -> None:
    world = World(make_book({"id": "r", "on": "purchase.completed"}))
    for number in range(3):
        world.send(
            "purchase.completed", order_id=f"o{number}", items=[], total=INT_MAX, currency="JPY"
        )
    for number in range(3):
        world.send("purchase.refunded", order_id=f"o{number}")
    now = stored_and_back(world).now
    assert (now.orders, now.spend, now.margin_micro) == (0, 0, 0)


def test_s22_a_cart_of_ever_more_of_the_same_is_offered_again_at_a_price_that_can_be_sent() -> None:
    book = make_book(
        {
            "id": "r",
            "on": "cart.item_added",
            "pick": {"same": "cart.items"},
            "price": {"off": "10%"},
        }
    )
    world = World(book)
    world.product("a", price=INT_MAX)
    item = {"sku": "a", "quantity": INT_MAX, "unit_price": INT_MAX}
    out = world.send("cart.item_added", cart_id="k", item=item, subtotal=INT_MAX, currency="JPY")
    (offer,) = (one for one in sent(out) if one["type"] == "offer.made")
    assert offer["data"]["saving"] == INT_MAX
    assert stored_and_back(world).offers.made[0].price == INT_MAX
