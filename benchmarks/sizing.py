"""How much room a customer takes: in Redis, and in a worker's memory.

python -m benchmarks.sizing [--customers 100000] [--json]

Synthetic shoppers (six of ten only look, three buy now and then, one buys every week) go through
the engine, and their documents into a Valkey of our own by the production's atomic call, half of
the customers with a timer that waits. What ten million customers with five million timers would
take is the same bytes times a hundred.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import redis

from streams.embedded import EmbeddedStore
from streams.store import Batch, Store, new_token
from triggers.book import Book
from triggers.catalog import Catalog
from triggers.compiler import compile_content
from triggers.customer import PART_LETTERS, Customer
from triggers.durations import to_ms
from triggers.engine import step
from triggers.events import EVENT_TYPES, Event
from triggers.state import SCHEMA

PARTITIONS = 8
BATCH = 1_000
SEED = 20_261_127
BEGIN = to_ms("2026-01-01T00:00:00Z")
DAY, MINUTE = 86_400_000, 60_000
WANTED_CUSTOMERS, WANTED_TIMERS = 10_000_000, 5_000_000
GIB = 1 << 30

REASON = {"ja": "理由", "en": "why"}
BOOK = {
    "book": {"name": "sizing", "timezone": "Asia/Tokyo", "currency": "JPY"},
    "rules": [
        {"id": "add-on", "kind": "cross_sell", "on": "cart.item_added", "channel": "onsite",
         "once_per": "about", "cooldown": "1d", "reason": REASON, "pick": "none"},
        {"id": "cart-left", "kind": "follow_up", "on": "cart.item_added", "after_silence": "30d",
         "unless": ["purchase.completed"], "channel": "email", "reason": REASON, "pick": "none"},
    ],
}  # fmt: skip


def book() -> Book:
    found = compile_content(BOOK)
    assert isinstance(found, Book), found
    return found


def shopper(chance: random.Random, number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """One customer's year as event types and payloads; every second one leaves a cart behind."""
    yield "consent.granted", {"channel": "*"}
    kind = chance.random()
    orders = 0 if kind < 0.6 else chance.randint(1, 5) if kind < 0.9 else chance.randint(20, 60)
    for _ in range(chance.randint(1, 5) + 2 * orders):
        yield "product.viewed", {"sku": f"sku-{chance.randrange(20_000):05}"}
    for order in range(orders):
        items = [item(chance) for _ in range(chance.randint(1, 6))]
        cart = f"c{number:07}-{order:02}"
        total = sum(one["unit_price"] for one in items)
        for one in items:
            yield "cart.item_added", added(cart, one)
        yield "purchase.completed", {
            "order_id": f"o{number:07}-{order:02}", "items": items, "total": total,
            "currency": "JPY", "cart_id": cart,
        }  # fmt: skip
    if number % 2:
        yield "cart.item_added", added(f"c{number:07}-left", item(chance))


def item(chance: random.Random) -> dict[str, Any]:
    price = chance.randrange(100, 20_000)
    return {"sku": f"sku-{chance.randrange(20_000):05}", "quantity": 1, "unit_price": price,
            "category": f"category-{chance.randrange(40)}"}  # fmt: skip


def added(cart: str, one: dict[str, Any]) -> dict[str, Any]:
    return {"cart_id": cart, "item": one, "subtotal": one["unit_price"], "currency": "JPY"}


def live(chance: random.Random, number: int, rules: Book, catalog: Catalog) -> tuple[Customer, int]:
    """A customer after a year, and the number of events."""
    customer = Customer(f"customer-{number:08}")
    at = BEGIN + chance.randrange(300 * DAY)
    count = 0
    for kind, data in shopper(chance, number):
        at += chance.randrange(MINUTE, 12 * 60 * MINUTE)
        payload = msgspec.convert(data, EVENT_TYPES[kind].data)
        event = Event(f"{number:08}-{count:04}", "shop", kind, customer.id, at, payload)
        step(customer, event, at, rules, catalog)
        count += 1
    return customer, count


async def fill(url: str, customers: int) -> dict[str, int]:
    """Write all customers; events, timers and bytes of their documents."""
    store = await Store.connect(url)
    await store.ensure_functions()
    rules, catalog, chance = book(), Catalog(), random.Random(SEED)
    metas = [await store.claim(n, new_token(), 1, PARTITIONS, SCHEMA) for n in range(PARTITIONS)]
    calls = [meta.number for meta in metas]
    found = {"events": 0, "timers": 0, "document_bytes": 0}
    for begin in range(0, customers, BATCH):
        number = begin // BATCH % PARTITIONS
        docs: dict[tuple[bytes, str], bytes] = {}
        due: dict[bytes, int | None] = {}
        for one in range(begin, min(begin + BATCH, customers)):
            customer, events = live(chance, one, rules, catalog)
            found["events"] += events
            name = customer.id.encode()
            for letter, packed in customer.take_changes():
                if packed:
                    docs[name, letter] = packed
                    found["document_bytes"] += len(packed)
            if customer.due_ms():
                due[name] = customer.due_ms()
                found["timers"] += 1
        batch = Batch(
            token=metas[number].token, number=calls[number], offsets={}, docs=docs, due=due
        )
        await store.apply(number, batch)
        calls[number] += 1
    await store.close()
    return found


async def worker_bytes(url: str, customers: int) -> int:
    """What a loaded and used document takes in a worker, by the allocator's own count."""
    store = await Store.connect(url)
    number = 0
    ids = [f"customer-{one:08}".encode() for one in range(min(BATCH, customers))]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = []
    stored = await store.load(number, ids, PART_LETTERS)
    for name in ids:
        customer = Customer(name.decode(), stored[name])
        for part in ("orders", "owned", "offers", "marks", "bars", "history", "seen"):
            customer.part(part)
        kept.append(customer)
    del stored
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    await store.close()
    return (after - before) // len(kept)


def used(client: redis.Redis) -> int:
    info: Any = client.info("memory")
    return int(info["used_memory"])


def measure(customers: int, folder: Path) -> dict[str, int]:
    """All figures."""
    with EmbeddedStore(folder / "store") as server, redis.Redis.from_url(server.url) as client:
        empty = used(client)
        found = asyncio.run(fill(server.url, customers))
        full = used(client)
        due = sum(
            int(client.memory_usage(key, samples=0) or 0) for key in client.scan_iter("*:due")
        )
        cached = asyncio.run(worker_bytes(server.url, customers))
        info: Any = client.info("memory")
    timers = found["timers"]
    return {
        "customers": customers,
        **found,
        "redis_bytes": full - empty,
        "redis_rss_bytes": int(info["used_memory_rss"]),
        "bytes_per_customer": (full - empty - due) // customers,
        "bytes_per_timer": due // max(1, timers),
        "worker_bytes_per_customer": cached,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="bytes per customer in Redis and in a worker")
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments.customers, Path(folder))
    if arguments.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:<28}{value:>16,}")
    redis_bytes = (
        WANTED_CUSTOMERS * found["bytes_per_customer"] + WANTED_TIMERS * found["bytes_per_timer"]
    )
    print(
        f"{WANTED_CUSTOMERS:,} customers with {WANTED_TIMERS:,} timers: "
        f"{redis_bytes / GIB:.1f} GiB of Redis; a cache of 100,000 documents: "
        f"{100_000 * found['worker_bytes_per_customer'] / GIB:.2f} GiB of a worker"
    )


if __name__ == "__main__":
    main()
