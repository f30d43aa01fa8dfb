"""What the engine costs an event: microseconds for `engine.step` and for the documents' bytes.

python -m benchmarks.engine [--customers N] [--rounds N] [--batch N] [--profile]

Every customer fills baskets of twelve lines, goes to the checkout and pays, under the ten rules
of `benchmarks/rules`. Events of many customers alternate as they do in a partition, batches end
with `take_changes` of every customer that they touched, and nothing else is in the figures.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import pstats
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from streams.rulefiles import load_book
from triggers.book import Book
from triggers.catalog import Catalog
from triggers.customer import Customer
from triggers.durations import to_ms
from triggers.engine import step
from triggers.events import EVENT_TYPES, Event
from triggers.judgement import Step

RULES = Path(__file__).parent / "rules"
LINES = 12
PRODUCTS = 400
#: One product in seven is dear enough for the rule that answers most often.
PRICES = [60 + number for number in range(PRODUCTS)]
CATEGORIES = ("bread", "cheese", "milk", "pasta", "produce", "tea")
START_MS = to_ms("2026-03-02T10:00:00-05:00")
SECOND, HOUR = 1_000, 3_600_000


def make_catalog() -> Catalog:
    """Products with five complements each."""
    catalog = Catalog()
    for number in range(PRODUCTS):
        category = CATEGORIES[number % len(CATEGORIES)]
        product = {
            "name": f"Product {number}",
            "price": PRICES[number],
            "currency": "USD",
            "category": category,
        }
        _apply(catalog, "catalog.product_set", f"p{number}", product)
    for number in range(PRODUCTS):
        for place in range(1, 6):
            to = f"p{(number * 7 + place * 31) % PRODUCTS}"
            edge = {"to": to, "relation": "complement", "weight": place / 10}
            _apply(catalog, "catalog.relation_set", f"p{number}", edge)
    return catalog


def _apply(catalog: Catalog, kind: str, sku: str, data: dict[str, Any]) -> None:
    catalog.apply(kind, sku, msgspec.convert(data, EVENT_TYPES[kind].data))


def _basket(customer: int, round_: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of one basket: type and data."""
    key = f"{customer}-{round_}"
    items = [
        {
            "sku": f"p{number}",
            "quantity": 1,
            "unit_price": PRICES[number],
            "category": CATEGORIES[number % len(CATEGORIES)],
        }
        for place in range(LINES)
        for number in [(customer * 13 + round_ * 101 + place * 17) % PRODUCTS]
    ]
    subtotal = 0
    for item in items:
        subtotal += item["unit_price"]
        cart = {"cart_id": f"k{key}", "item": item, "subtotal": subtotal, "currency": "USD"}
        yield "cart.item_added", cart
    checkout = {
        "checkout_id": f"h{key}",
        "cart_id": f"k{key}",
        "total": subtotal,
        "currency": "USD",
    }
    yield "checkout.started", checkout
    yield "checkout.payment_reached", checkout
    order = {
        "order_id": f"o{key}",
        "items": items,
        "total": subtotal,
        "currency": "USD",
        "cart_id": f"k{key}",
    }
    yield "purchase.completed", order


def stream(customers: int, rounds: int) -> Iterator[Event]:
    """Consents, then rounds of baskets three days apart, the customers' events interleaved."""
    for customer in range(customers):
        yield _event(customer, "consent.granted", {"channel": "*"}, START_MS - HOUR, "grant")
    for round_ in range(rounds):
        start = START_MS + round_ * 73 * HOUR
        baskets = [list(_basket(customer, round_)) for customer in range(customers)]
        for place in range(LINES + 3):
            for customer, basket in enumerate(baskets):
                kind, data = basket[place]
                at = start + place * 40 * SECOND + customer * 7
                yield _event(customer, kind, data, at, f"{round_}-{place}")


def _event(customer: int, kind: str, data: dict[str, Any], at: int, number: str) -> Event:
    payload = msgspec.convert(data, EVENT_TYPES[kind].data)
    return Event(f"e{customer}-{number}", "shop", kind, f"c{customer}", at, payload)


class Run:
    """Batches of events over kept customers; seconds spent in the engine and in the encoder."""

    def __init__(self, book: Book, catalog: Catalog) -> None:
        self.book = book
        self.catalog = catalog
        self.customers: dict[str, Customer] = {}
        self.events = self.decisions = self.offers = self.written = 0
        self.step_s = self.encode_s = 0.0

    def batch(self, events: list[Event]) -> None:
        """Decide, then encode what changed, as a partition does."""
        known, book, catalog, out = self.customers, self.book, self.catalog, Step()
        by_customer: dict[str, list[Event]] = {}
        for event in events:
            by_customer.setdefault(event.subject, []).append(event)
        started = time.perf_counter()
        for subject, own in by_customer.items():
            customer = known.get(subject)
            if customer is None:
                customer = known[subject] = Customer(subject)
            for event in own:
                step(customer, event, event.time_ms, book, catalog, 7, out)
        decided = time.perf_counter()
        for subject in by_customer:
            for _, packed in known[subject].take_changes():
                self.written += len(packed)
        self.encode_s += time.perf_counter() - decided
        self.step_s += decided - started
        self.events += len(events)
        self.decisions += len(out.decisions)
        self.offers += len(out.offers)

    def figures(self) -> dict[str, Any]:
        """Microseconds and bytes an event, and how much was decided."""
        count = self.events
        return {
            "events": count,
            "loop_ns": round(_loop_ns(), 1),
            "step_us": round(self.step_s / count * 1e6, 2),
            "encode_us": round(self.encode_s / count * 1e6, 2),
            "bytes_per_event": round(self.written / count),
            "decisions_per_event": round(self.decisions / count, 3),
            "offers_per_event": round(self.offers / count, 3),
        }


def _loop_ns() -> float:
    """What a turn of an empty-handed loop costs: a yardstick for machines that vary."""
    turns, total = 2_000_000, 0
    started = time.perf_counter()
    for number in range(turns):
        total += number
    return (time.perf_counter() - started) / turns * 1e9


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--customers", type=int, default=500)
    options.add_argument("--rounds", type=int, default=8)
    options.add_argument("--batch", type=int, default=2000)
    options.add_argument("--profile", action="store_true", help="where the time goes")
    chosen = options.parse_args()
    run = Run(load_book(RULES), make_catalog())
    events = stream(chosen.customers, chosen.rounds)
    profile = cProfile.Profile() if chosen.profile else None
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # as the worker does
    while batch := list(islice(events, chosen.batch)):
        if profile:
            profile.enable()
        run.batch(batch)
        if profile:
            profile.disable()
    if profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)
    print(json.dumps(run.figures()))


if __name__ == "__main__":
    main()
